"""Arrays in one safetensors file, written piece by piece and read as a memory map."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from molfldd.errors import MolflddError

_TYPES = {"uint8": "U8", "int64": "I64"}
_ALIGNMENT = 8


@dataclass(frozen=True)
class Pieces:
    """An array that comes in pieces along its first axis.

    Attributes:
        dtype: "uint8" or "int64".
        shape: Shape of the whole.
        parts: The pieces in their order, each taken when its turn comes.
    """

    dtype: str
    shape: tuple[int, ...]
    parts: Iterable[NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


def write_mapped(path: Path, arrays: Mapping[str, Pieces], metadata: Mapping[str, str]) -> None:
    """Write arrays one after another, holding one piece in memory at a time.

    An int64 array must not follow a uint8 array, so that it is aligned in memory when mapped.

    Raises:
        OSError: if the file cannot be written.
    """
    with path.open("wb") as file:
        file.write(_header(arrays, metadata))
        for array in arrays.values():
            for part in array.parts:
                file.write(np.ascontiguousarray(part, array.dtype).data)


def _header(arrays: Mapping[str, Pieces], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON of the header, padded with spaces to whole words."""
    content: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for name, array in arrays.items():
        end = position + array.nbytes
        content[name] = {
            "dtype": _TYPES[array.dtype],
            "shape": array.shape,
            "data_offsets": (position, end),
        }
        position = end
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def read_mapped(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays, mapped into memory and so loaded only where they are looked at, and metadata.

    Raises:
        MolflddError: if the file is missing, truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise MolflddError(f"{path} is damaged ({error}) and must be built again") from error
