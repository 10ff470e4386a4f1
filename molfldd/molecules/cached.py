"""Data sets in memory, and those prepared once and kept in a cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rdkit import rdBase

from molfldd.errors import MolflddError
from molfldd.messages import say
from molfldd.molecules.parsing import Entry, Rules
from molfldd.molecules.preparation import Source, exclusively, prepare
from molfldd.molecules.ragged import Ragged
from molfldd.molecules.report import ParseReport
from molfldd.molecules.store import CACHE_FORMAT, MoleculeDataset, read_dataset
from molfldd.molecules.vocabulary import Vocabulary
from molfldd.storage import cache_directory

_PROGRAMS = f"rdkit{rdBase.rdkitVersion}-format{CACHE_FORMAT}"


def build_dataset(
    name: str,
    smiles: Sequence[str],
    vocabulary: Vocabulary | None = None,
    ids: Iterable[int] | None = None,
) -> tuple[MoleculeDataset, ParseReport]:
    """Data set in memory of SMILES in their order, and a report of those left out.

    The vocabulary is that of the data unless one is given; molecules with other atoms are then
    left out. `ids` number the molecules in their source, one number for each SMILES, by default
    from 1 on. Raises `MolflddError` if no molecule is left.
    """
    numbers = range(1, len(smiles) + 1) if ids is None else ids
    entries = list(zip(numbers, smiles, strict=True))
    source = Source(name, "", {"all": lambda: entries}, Rules(vocabulary=vocabulary))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        prepare(source, path)
        dataset = _in_memory(read_dataset(path))
    return dataset, dataset.report or ParseReport(0, 0, {})


def _in_memory(dataset: MoleculeDataset) -> MoleculeDataset:
    """The same without a file behind it."""
    return dataclasses.replace(
        dataset,
        atoms=dataset.atoms.copy(),
        bonds=dataset.bonds.copy(),
        sizes=dataset.sizes.copy(),
        text=Ragged(dataset.text.values.copy(), dataset.text.offsets),
        ids=dataset.ids.copy(),
    )


def cache_file(source: Source) -> Path:
    """Where the data set of a source is kept; another version of anything is another file."""
    return cache_directory() / f"{source.name}-{source.version}-{_PROGRAMS}.safetensors"


def is_cached(name: str) -> bool:
    """Whether any version of a data set has been prepared by the programs that are here."""
    return any(cache_directory().glob(f"{name}-*-{_PROGRAMS}.safetensors"))


def cached_dataset(source: Source) -> MoleculeDataset:
    """Data set of a source, mapped into memory from the cache.

    Prepared first if it is not there; if it is damaged, one line on stderr says so.

    Raises:
        MolflddError: if no molecule of the source can be used, or the cache cannot be written.
    """
    path = cache_file(source)
    if path.exists():
        try:
            return read_dataset(path)
        except MolflddError as error:
            say(f"rebuilding the cache: {error}")
    with exclusively(path):
        try:
            return read_dataset(path)  # which another process has prepared meanwhile
        except MolflddError:
            prepare(source, path)
    return read_dataset(path)


def numbered(smiles: Callable[[], Iterable[str]]) -> Iterator[Entry]:
    """Molecules numbered from 1 on."""
    yield from enumerate(smiles(), start=1)
