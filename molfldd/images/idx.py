"""IDX, the file format of MNIST: a magic number, the dimensions, then the numbers themselves.

The magic number is two zero bytes, the code of the type (8: unsigned bytes, the only one read
here) and the number of dimensions; each dimension is a big-endian 32-bit number.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molfldd.errors import MolflddError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, plain or, with the suffix ``.gz``, packed.

    Args:
        path: The file.
        dimensions: Number of dimensions the array must have: 3 for images, 1 for labels.

    Raises:
        MolflddError: if the file cannot be read, is no such file, or is truncated.
    """
    content = _read(path)
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise MolflddError(
            f"{path} is no IDX file of unsigned bytes in {dimensions} dimensions: it begins with "
            f"{content[:4].hex() or 'nothing'} and not with {magic.hex()}"
        )
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], ">u4") if len(content) >= start else np.zeros(0)
    expected = start + int(shape.prod(dtype=np.int64))
    if len(shape) < dimensions or len(content) != expected:
        raise MolflddError(
            f"{path} is truncated or damaged: it has {len(content):,} bytes and not {expected:,}; "
            "get it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape.astype(int)).copy()


def _read(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MolflddError(f"{path} is truncated or damaged ({error}); get it again") from error
    except OSError as error:
        raise MolflddError(f"cannot read {path}: {error.strerror}") from error
