"""TensorBoard's event files, written by hand."""

import struct
from pathlib import Path

from primo_report.tensorboard import masked_crc


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def simple_value(value: float) -> bytes:
    return varint(2 << 3 | 5) + struct.pack("<f", value)


def tensor(
    *values: float, kind: int = 1, shape: tuple[int, ...] = (), content: bool = False
) -> bytes:
    """Floats (kind 1) or doubles (2), as TensorFlow 2 and newer writers give scalars."""
    dimensions = b"".join(message(2, number(1, size)) for size in shape)
    packed = struct.pack(f"<{len(values)}{'f' if kind == 1 else 'd'}", *values)
    field = 4 if content else 4 + kind
    return message(8, number(1, kind) + message(2, dimensions) + message(field, packed))


def plugin(name: str) -> bytes:
    return message(9, message(1, message(1, name.encode())))


def value(tag: str, *parts: bytes) -> bytes:
    return message(1, message(1, tag.encode()) + b"".join(parts))


def event(step: int, *values: bytes) -> bytes:
    """An event with a summary, as a whole record."""
    wall_time = varint(1 << 3 | 1) + struct.pack("<d", 1.7e9)
    return record(wall_time + number(2, step) + message(5, b"".join(values)))


def scalar(step: int, tag: str, number: float) -> bytes:
    return event(step, value(tag, simple_value(number)))


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return (
        length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))
    )


def append(folder: Path, *records: bytes, name: str = "events.out.tfevents.1.host.1.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with path.open("ab") as file:
        file.writelines(records)
    return path
