"""Packs messages and their bytes into one frame of a WebSocket."""

import json
from typing import Any

from cryojax_seg.io.plain import parse_json

LARGEST = 2**22  # bytes of a message of a page


def packed(message: dict[str, Any], data: bytes | None) -> str | bytes:
    """Return a message as text, or with bytes as its length in 4 bytes, its text, and the bytes.

    >>> packed({"type": "told"}, None)
    '{"type": "told"}'
    >>> packed({}, b"abc")
    b'\\x00\\x00\\x00\\x02{}abc'
    """
    text = json.dumps(message, allow_nan=False)
    if data is None:
        return text
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded + data


def unpacked(text: str) -> Any:
    """Return the message in a text.

    Raises:
        ValueError: if it is too long, too deeply nested or no JSON.

    >>> unpacked('{"type": "hello"}')
    {'type': 'hello'}
    """
    if len(text) > LARGEST:
        raise ValueError(f"a message has at most {LARGEST} characters")
    return parse_json(text)
