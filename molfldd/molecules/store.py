"""Molecules as padded arrays of codes, in memory or mapped from a cache file.

The cache file holds, for N molecules of at most n_max atoms: `ids` (N,) int64, `sizes` (N,),
`atoms` (N, n_max), `bonds` (N, n_max (n_max - 1) / 2) and `text` (the SMILES, a line each), all
uint8, and as the last 32 bytes the seal, a SHA-256 over the content and the metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molfldd.errors import MolflddError
from molfldd.mapped import read_mapped
from molfldd.molecules.codec import Codes, MoleculeGraph, num_pairs
from molfldd.molecules.ragged import Ragged, as_range, ranges
from molfldd.molecules.report import ParseReport
from molfldd.molecules.vocabulary import Vocabulary

CACHE_FORMAT = 3
"""Counted up whenever the codec or the cache file changes what it stores."""

SEAL_BYTES = 32
"""Length of the seal at the end of a cache file."""

_LINES = 10_000
"""SMILES decoded at a time."""


@dataclass(frozen=True, eq=False)
class MoleculeDataset:
    """N molecules as codes, padded with 0 to the largest size n_max.

    Attributes:
        name: What messages call it.
        vocabulary: Element and charge of each atom code.
        atoms: (N, n_max) uint8.
        bonds: (N, n_max (n_max - 1) / 2) uint8 in pair order.
        sizes: (N,) uint8 atoms per molecule.
        text: N stereo-free canonical SMILES as bytes, each with a newline.
        ids: (N,) int64 numbers of the molecules in their source, counted from 1 (QM9: gdb
            indices).
        parts: Numbers of molecules of the parts the source comes in, which follow each other;
            empty if it is one.
        report: What was read and skipped; None for a subset.
    """

    name: str
    vocabulary: Vocabulary
    atoms: Codes
    bonds: Codes
    sizes: Codes
    text: Ragged
    ids: NDArray[np.int64]
    parts: Mapping[str, int] = field(default_factory=dict)
    report: ParseReport | None = None

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self.sizes)

    @property
    def max_atoms(self) -> int:
        """Width n_max of `atoms`; a subset keeps that of the whole."""
        return int(self.atoms.shape[1])

    @cached_property
    def smiles(self) -> list[str]:
        """All SMILES; `iterate_smiles` does not hold them in memory."""
        return list(self.iterate_smiles())

    def iterate_smiles(self) -> Iterator[str]:
        """The SMILES, one after another."""
        for part in ranges(len(self), _LINES):
            yield from bytes(self.text.take(part).values).decode().splitlines()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content: vocabulary, SMILES, ids and all codes, not the name."""
        digest = hashlib.sha256(json.dumps(self.vocabulary.to_json()).encode())
        digest.update(np.ascontiguousarray(self.text.values[:-1]).data)
        for array in (self.atoms, self.bonds, self.sizes, self.ids.astype("<i8")):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).data)
        return digest.hexdigest()

    def graph(self, index: int) -> MoleculeGraph:
        """Graph of one molecule without its padding."""
        n = int(self.sizes[index])
        return MoleculeGraph(self.atoms[index, :n], self.bonds[index, : num_pairs(n)])

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> MoleculeDataset:
        """Data set of the molecules in these rows, in their order; consecutive ones are shared."""
        rows = as_range(np.asarray(indices, np.int64))
        return MoleculeDataset(
            self.name,
            self.vocabulary,
            self.atoms[rows],
            self.bonds[rows],
            self.sizes[rows],
            self.text.take(rows),
            self.ids[rows],
        )

    def part(self, name: str) -> MoleculeDataset:
        """One of the parts the source comes in; raises `KeyError` for another name."""
        count = self.parts[name]
        before = list(self.parts)[: list(self.parts).index(name)]
        start = sum(self.parts[earlier] for earlier in before)
        return self.subset(np.arange(start, start + count))

    def size_histogram(self) -> NDArray[np.int64]:
        """Number of molecules by number of atoms: (n_max + 1,) counts."""
        return np.bincount(self.sizes, minlength=self.max_atoms + 1)


def _open(path: Path) -> tuple[MoleculeDataset, bytes, bytes]:
    """Data set of a cache file, the seal that it should have, and the one it has."""
    arrays, metadata = read_mapped(path)
    if metadata.get("format") != str(CACHE_FORMAT):
        raise MolflddError(f"{path} has another format and must be built again")
    try:
        dataset = MoleculeDataset(
            metadata["name"],
            Vocabulary.from_json(json.loads(metadata["vocabulary"])),
            arrays["atoms"],
            arrays["bonds"],
            arrays["sizes"],
            Ragged.of_lines(arrays["text"]),
            arrays["ids"],
            json.loads(metadata["parts"]),
            ParseReport.from_json(json.loads(metadata["report"])),
        )
        seal = hashlib.sha256(dataset.fingerprint.encode())
        seal.update(json.dumps(sorted(metadata.items())).encode())
        return dataset, seal.digest(), bytes(arrays["seal"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MolflddError(f"{path} is damaged ({error!r}) and must be built again") from error


def seal_dataset(path: Path) -> None:
    """Write the seal of a cache file into its place; the file is complete but for it."""
    _, seal, _ = _open(path)
    with path.open("r+b") as file:
        file.seek(-SEAL_BYTES, os.SEEK_END)
        file.write(seal)


def read_dataset(path: Path) -> MoleculeDataset:
    """Data set of a cache file, mapped into memory after all of its content was checked.

    Raises:
        MolflddError: if the file is missing, damaged in any way, or of another format.
    """
    dataset, expected, found = _open(path)
    if expected != found:
        raise MolflddError(f"{path} does not hold what was written and must be built again")
    return dataset
