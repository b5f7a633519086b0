"""Reads the scalars in TensorBoard's event files as reports, so that training code need not change.

An event file is a sequence of records: the length in 8 bytes, its checksum in 4, so many bytes of
data, their checksum in 4, all little-endian; the checksums are masked CRC-32C
(tensorflow/core/lib/io/record_writer.h). The data is an `Event` in protobuf's encoding; of it,
and of the messages below it (tensorflow/core/framework/summary.proto, tensor.proto), the few
fields that make a scalar are read:

    Event   {2: step, 5: Summary}            Value  {1: tag, 2: simple_value (float), 8: Tensor,
    Summary {1: Value, ...}                          9: metadata {1: plugin {1: its name}}}
    Tensor  {1: type, 2: shape {2: one for each dimension}, 4: content, 5, 6: values}
"""

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from primo_report.aggregate import Aggregate
from primo_report.wire import BadReportError, Rejection, checked_report

MAX_FILES: Final = 64
MAX_DEPTH: Final = 4
MAX_ENTRIES: Final = 1000
MAX_TAGS: Final = 1000
MAX_SCALARS: Final = 4096  # in a record
MAX_RECORD_BYTES: Final = 1024 * 1024  # longer ones hold images and graphs, and are passed over
_CHUNK_BYTES: Final = 256 * 1024
_SHORT_BYTES: Final = 256
_HEAD_BYTES, _FOOT_BYTES = 12, 4
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SCALAR_PLUGINS: Final = (b"", b"scalars")
# Types of tensors: how a value is packed, and the field of values that are no `content`.
_FLOAT, _DOUBLE = 1, 2
_TYPES: Final = {_FLOAT: ("<f", 5), _DOUBLE: ("<d", 6)}


class BadEventError(ValueError):
    """A record is damaged, or is no event."""


class BrokenFileError(BadEventError):
    """Where the next record begins is unknown."""


@dataclass(frozen=True, slots=True)
class Scalar:
    tag: str
    step: int
    value: float


class EventFolder:
    """Follows the event files in a folder and the folders below it.

    A metric is called by its tag. The same tag in two folders is told apart by depth: that of the
    folder nearest to the top counts, and of two equally near ones neither. A tag in a certain
    folder is taken where the study asks for it as `folder/tag`. Links are not followed.

    Attributes:
        problem: why something may be missing; empty when nothing is.
        ended: the last read found that all there is has been read.
    """

    def __init__(self, path: Path, wanted: tuple[str, ...] = ()) -> None:
        self._path = path
        self._names = _Names(wanted)
        self._files: dict[str, _EventFile] = {}
        self.problem = ""
        self.ended = False

    def fold_into(self, aggregate: Aggregate) -> list[Rejection] | None:
        """Fold the next records; what was ignored of them, or None at the end of all files."""
        problems: list[str] = []
        ignored = self._fold_next(list(self._files), aggregate, problems)
        if ignored is None:
            ignored = self._fold_next(self._find(problems), aggregate, problems)
        self.problem = problems[0] if problems else ""
        self.ended = ignored is None and not problems
        return ignored

    def _fold_next(
        self, names: list[str], aggregate: Aggregate, problems: list[str]
    ) -> list[Rejection] | None:
        """Fold from the first of some files that has more."""
        for name in names:
            file = self._files[name]
            try:
                records = file.read(self._path / name)
            except OSError as error:
                problems.append(f"{name}: {_reason(error)}")
                continue
            if file.broken:
                problems.append(f"{name}: damaged at byte {file.offset}, the rest is not read")
            if records is not None:
                return list(self._fold(name, records, aggregate))
        return None

    def _find(self, problems: list[str]) -> list[str]:
        """Take in the files that are new."""
        try:
            found = _event_files(self._path, problems)
        except OSError as error:
            problems.append(f"{self._path}: {_reason(error)}")
            return []
        new = [name for name in sorted(found) if name not in self._files]
        room = MAX_FILES - len(self._files)
        if len(new) > room:
            problems.append(f"{new[room]}: there are more than {MAX_FILES} event files")
        self._files |= {name: _EventFile() for name in new[:room]}
        return new[:room]

    def _fold(self, name: str, records: list[bytes], aggregate: Aggregate) -> Iterator[Rejection]:
        folder = name.rpartition("/")[0]
        for record in records:
            try:
                found = scalars(record)
            except BadEventError as error:
                yield aggregate.reject(f"{name}: {error}")
                continue
            for scalar in found:
                if rejection := self._fold_scalar(folder, scalar, aggregate):
                    yield rejection

    def _fold_scalar(self, folder: str, scalar: Scalar, aggregate: Aggregate) -> Rejection | None:
        try:
            checked_report({scalar.tag: scalar.value}, scalar.step)  # before the tag is remembered
            metric, reason = self._names.metric(folder, scalar.tag, aggregate)
            if reason:
                return aggregate.reject(reason)
            if metric is None:
                return None
            return aggregate.fold(checked_report({metric: scalar.value}, scalar.step))
        except BadReportError as error:
            return aggregate.reject(error.reason)


class _Names:
    """Which metric a tag in a folder is."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self._wanted = frozenset(wanted)
        # Tag to the folder it is taken from; None instead where several are equally near.
        self._owners: dict[str, tuple[int, str | None]] = {}

    def metric(self, folder: str, tag: str, aggregate: Aggregate) -> tuple[str | None, str]:
        """The metric's name or None, and why it is ignored, if that is news."""
        if folder and f"{folder}/{tag}" in self._wanted:
            return f"{folder}/{tag}", ""
        depth = folder.count("/") + 1 if folder else 0
        owner = self._owners.get(tag)
        if owner is None and len(self._owners) >= MAX_TAGS and tag not in self._wanted:
            return None, f"tag {tag[:40]!a} is one more than {MAX_TAGS}"
        if owner is None or depth < owner[0]:
            if owner is not None:
                aggregate.forget(tag)
            self._owners[tag] = depth, folder
            return tag, ""
        if owner == (depth, folder):
            return tag, ""
        if depth > owner[0] or owner[1] is None:
            return None, ""
        aggregate.forget(tag)
        self._owners[tag] = depth, None
        return None, (
            f"tag {tag[:40]!a} is in {owner[1][:40]!a} and in {folder[:40]!a}:"
            " name the metric folder/tag"
        )


class _EventFile:
    """One file, from record to record."""

    def __init__(self) -> None:
        self.offset = 0
        self.broken = False

    def read(self, path: Path) -> list[bytes] | None:
        """The next whole records, checksums included, possibly none; None at the end."""
        if self.broken or _size(path) < self.offset + _HEAD_BYTES + _FOOT_BYTES:
            return None
        descriptor = os.open(path, _FLAGS)
        try:
            return self._next(descriptor)
        finally:
            os.close(descriptor)

    def _next(self, descriptor: int) -> list[bytes] | None:
        size = os.fstat(descriptor).st_size
        chunk = os.pread(descriptor, _CHUNK_BYTES, self.offset)
        records: list[bytes] = []
        at, end = 0, None
        try:
            while (end := _end(chunk, at)) is not None and end <= len(chunk):
                records.append(chunk[at:end])
                at = end
        except BrokenFileError:
            self.broken = True
        self.offset += at
        if records or self.broken:
            return records
        if end is None or self.offset + end > size:
            return None
        # Whole, but longer than a chunk.
        whole = [] if end > MAX_RECORD_BYTES else [os.pread(descriptor, end, self.offset)]
        self.offset += end
        return whole


def scalars(record: bytes) -> list[Scalar]:
    """The scalars in a record.

    Raises:
        BadEventError: the record is damaged, or is no event.
    """
    data = record[_HEAD_BYTES:-_FOOT_BYTES]
    try:
        found = _event(data)
    except BadEventError:
        _check(record, data)
        raise
    # Pure Python takes its time for a checksum, and what has no scalars is often long.
    if found or len(data) < _SHORT_BYTES:
        _check(record, data)
    return found


def masked_crc(data: bytes) -> int:
    """CRC-32C, turned and shifted as record files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_entry(entry: int) -> int:
    for _ in range(8):
        entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
    return entry


_CRC_TABLE: Final = tuple(_crc_entry(entry) for entry in range(256))


def _check(record: bytes, data: bytes) -> None:
    (crc,) = struct.unpack("<I", record[-_FOOT_BYTES:])
    if masked_crc(data) != crc:
        raise BadEventError("a record with a wrong checksum")


def _end(chunk: bytes, at: int) -> int | None:
    """Where the record at a place ends; None where its head is not all there."""
    if at + _HEAD_BYTES > len(chunk):
        return None
    length, crc = struct.unpack_from("<QI", chunk, at)
    if masked_crc(chunk[at : at + 8]) != crc:
        raise BrokenFileError("a record's length has a wrong checksum")
    return int(at + _HEAD_BYTES + length + _FOOT_BYTES)


def _event_files(top: Path, problems: list[str]) -> list[str]:
    """Paths below the top; at most so many entries are looked at, and so deep.

    Raises:
        OSError: the top is there and cannot be read.
    """
    found: list[str] = []
    entries = 0
    pending = [("", 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(top / folder) as listing:
                for entry in islice(listing, MAX_ENTRIES - entries + 1):
                    entries += 1
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                        pending.append((name, depth + 1))
                    elif ".tfevents." in entry.name and entry.is_file(follow_symlinks=False):
                        found.append(name)
        except FileNotFoundError:
            continue  # not made yet, or removed
        except OSError as error:
            if not folder:
                raise
            problems.append(f"{folder}: {_reason(error)}")
        if entries > MAX_ENTRIES:
            problems.append(f"{top}: there are more than {MAX_ENTRIES} files and folders")
            break
    return found


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _size(path: Path) -> int:
    try:
        state = os.stat(path, follow_symlinks=False)  # noqa: PTH116
    except FileNotFoundError:
        return 0
    return state.st_size if stat.S_ISREG(state.st_mode) else 0


# --- the few messages, in protobuf's encoding


def _event(data: bytes) -> list[Scalar]:
    step = 0
    summaries: list[bytes] = []
    for number, value in _fields(data):
        if number == 2:
            step = _signed(_integer(value))
        elif number == 5:
            summaries.append(_bytes(value))
    found = (
        scalar
        for summary in summaries
        for number, value in _fields(summary)
        if number == 1 and (scalar := _value(_bytes(value), step))
    )
    scalars = list(islice(found, MAX_SCALARS + 1))
    if len(scalars) > MAX_SCALARS:
        raise BadEventError(f"a record of more than {MAX_SCALARS} scalars")
    return scalars


def _value(data: bytes, step: int) -> Scalar | None:
    tag, plugin = "", b""
    value: float | None = None
    tensor: bytes | None = None
    for number, field in _fields(data):
        if number == 1:
            tag = _bytes(field).decode("utf-8", "replace")
        elif number == 2:
            value = _unpack("<f", _bytes(field))
        elif number == 8:
            tensor = _bytes(field)
        elif number == 9:
            plugin = _last(_last(_bytes(field), 1), 1)
    if value is None and tensor is not None and plugin in _SCALAR_PLUGINS:
        value = _tensor(tensor)
    return None if value is None else Scalar(tag, step, value)


def _tensor(data: bytes) -> float | None:
    """The number in a tensor without dimensions; None in another."""
    kind = 0
    given: dict[int, bytes] = {}
    for number, value in _fields(data):
        if number == 1:
            kind = _integer(value)
        elif isinstance(value, bytes):
            given[number] = value
    if kind not in _TYPES or any(number == 2 for number, _ in _fields(given.get(2, b""))):
        return None
    form, field = _TYPES[kind]
    return _unpack(form, given.get(4) or given.get(field) or bytes(struct.calcsize(form)))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: varints as integers, all else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise BadEventError(f"a record that is no event: a field of kind {kind}")
        if at + length > len(data):
            raise BadEventError("a record that is no event: a field goes beyond its end")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            break
        value |= (data[at + place] & 0x7F) << (7 * place)
        if data[at + place] < 0x80:
            return value, at + place + 1
    raise BadEventError("a record that is no event: a number without end")


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise BadEventError("a record that is no event: bytes in place of a number")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise BadEventError("a record that is no event: a number in place of bytes")
    return value


def _last(data: bytes, wanted: int) -> bytes:
    """The last of a message's fields with a number, as bytes."""
    found = b""
    for number, value in _fields(data):
        if number == wanted:
            found = _bytes(value)
    return found


def _unpack(form: str, data: bytes) -> float:
    try:
        (value,) = struct.unpack(form, data)
    except struct.error:
        raise BadEventError("a record that is no event: not one number") from None
    return float(value)
