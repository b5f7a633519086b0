"""JSON as deep as an API server stores it: 10,000 levels, ten times what fast parsers take.

One such object in a list or a watch would otherwise hide all others from the operator, and whoever
may create a study could put it there.
"""

import contextlib
import json
import json.decoder
import json.scanner
import sys
from typing import Any

import orjson

# Three frames of Python a level, and those cost no C stack.
FRAMES = 40_000


def loads(content: bytes) -> Any:
    """As `json.loads`, but that integers beyond 64 bits may come as floats.

    Raises:
        ValueError: it is no JSON, or deeper than that.
    """
    with contextlib.suppress(ValueError):
        return orjson.loads(content)
    try:
        return json.loads(content)
    except RecursionError:
        pass
    decoder = json.JSONDecoder()
    decoder.parse_object = json.decoder.JSONObject  # type: ignore[attr-defined]
    decoder.parse_array = json.decoder.JSONArray  # type: ignore[attr-defined]
    decoder.scan_once = json.scanner.py_make_scanner(decoder)  # type: ignore[attr-defined]
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(FRAMES)
    try:
        return decoder.decode(content.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    finally:
        sys.setrecursionlimit(usual)
