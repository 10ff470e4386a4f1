"""The rule that divides data by their content: always the same side, without any file."""

from hashlib import sha256

_RANGE = 2**64


def content_key(text: str) -> int:
    """The first 8 bytes of the SHA-256 of a text as a big-endian number."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def in_test_split(text: str, fraction: float) -> bool:
    """Whether a text, such as a canonical SMILES, belongs to the held-out part.

    It does if its key is in the lowest part of the range, so a larger fraction only adds texts.
    """
    return content_key(text) < fraction * _RANGE
