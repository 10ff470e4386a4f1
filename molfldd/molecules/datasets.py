"""Molecule data sets: the known ones and those of files, kept in a cache."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rdkit import rdBase
from rich.console import Console

from molfldd.download import Download, fetch
from molfldd.errors import MolflddError, UsageError
from molfldd.metrics import Statistics
from molfldd.molecules.files import iterate_smiles, unit
from molfldd.molecules.moses import PARTS, moses_file, moses_statistics
from molfldd.molecules.parsing import MAX_ATOMS, Entry, Rules
from molfldd.molecules.preparation import Source, exclusively, prepare
from molfldd.molecules.ragged import Ragged
from molfldd.molecules.report import ParseReport
from molfldd.molecules.splits import split, split_by_file, split_by_part
from molfldd.molecules.store import CACHE_FORMAT, MoleculeDataset, read_dataset
from molfldd.molecules.vocabulary import Vocabulary
from molfldd.storage import cache_directory

__all__ = [
    "DATASETS",
    "FILE",
    "MAX_ATOMS",
    "DatasetInfo",
    "MoleculeDataset",
    "Rules",
    "build_dataset",
    "cache_file",
    "cached_dataset",
    "file_source",
    "load_dataset",
    "load_file",
    "load_moses",
    "load_qm9",
    "load_zinc250k",
    "moses_source",
    "qm9_smiles",
    "qm9_source",
    "zinc250k_source",
]


def _say(message: str) -> None:
    Console(stderr=True).print(message, soft_wrap=True, markup=False, highlight=False)


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
    entries = list(zip(ids or range(1, len(smiles) + 1), smiles, strict=True))
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
    versions = f"{source.version}-rdkit{rdBase.rdkitVersion}-format{CACHE_FORMAT}"
    return cache_directory() / f"{source.name}-{versions}.safetensors"


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
            _say(f"rebuilding the cache: {error}")
    with exclusively(path):
        try:
            return read_dataset(path)  # which another process has prepared meanwhile
        except MolflddError:
            prepare(source, path)
    return read_dataset(path)


def _numbered(smiles: Callable[[], Iterable[str]]) -> Iterator[Entry]:
    yield from enumerate(smiles(), start=1)


# --- QM9


def _qm9_files() -> list[Path]:
    """The csv files of qm9pack, found without importing it (its import needs setuptools)."""
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or spec.origin is None:
        raise MolflddError('QM9 needs the package qm9pack: pip install "molfldd[qm9]"')
    files = sorted((Path(spec.origin).parent / "data").glob("qm9_part*.csv"))
    if not files:
        raise MolflddError("the package qm9pack has no data/qm9_part*.csv; reinstall it")
    return files


def _qm9_rows() -> Iterator[Entry]:
    for path in _qm9_files():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield int(row["Index"]), row["SMILES"]


def qm9_smiles() -> list[Entry]:
    """Gdb index (from 1) and SMILES of each QM9 molecule as qm9pack gives them, sorted.

    Raises `MolflddError` if qm9pack is not installed.
    """
    return sorted(_qm9_rows())


def qm9_source() -> Source:
    """QM9 as the package qm9pack gives it, numbered by the gdb index (from 1) and in its order.

    Raises `MolflddError` if qm9pack is not installed.
    """
    _qm9_files()
    version = f"qm9pack{importlib.metadata.version('qm9pack')}"
    return Source("qm9", version, {"all": qm9_smiles})


def load_qm9() -> MoleculeDataset:
    """QM9; its `ids` are the gdb indices. Raises what `qm9_source` and `cached_dataset` raise."""
    return cached_dataset(qm9_source())


# --- ZINC250k

ZINC250K = Download(
    "250k_rndm_zinc_drugs_clean_3.csv",
    "35e3f1a52b1badc0697e373d73a18ad773f415936ff992f4c6baa2e067b3e6ae",
    (
        "https://raw.githubusercontent.com/aspuru-guzik-group/chemical_vae/"
        "37b9f96470d4471c0593cffefa448e0a8a184ef6/models/zinc_properties/"
        "250k_rndm_zinc_drugs_clean_3.csv",
        "https://huggingface.co/datasets/chao1224/MoleculeSTM/resolve/main/ZINC250K_data/raw/"
        "250k_rndm_zinc_drugs_clean_3.csv",
        "https://huggingface.co/datasets/chao1224/ChatDrug_data/resolve/main/small_molecule/"
        "250k_rndm_zinc_drugs_clean_3.csv",
    ),
    "get the file elsewhere and give its path with --data",
)
"""The file that all ZINC250k results in the literature go back to."""

ZINC250K_TEST = Download(
    "valid_idx_zinc250k.json",
    "cf1af3a8588c947493ff0a2b60178db6726e9a4dbb445235b149cd3bbe6831df",
    (
        "https://raw.githubusercontent.com/harryjo97/GruM/master/GruM_2D/data/"
        "valid_idx_zinc250k.json",
        "https://raw.githubusercontent.com/divelab/DIG_storage/main/ggraph/valid_idx_zinc250k.json",
    ),
    "get the file elsewhere and give its path with --set data.split=PATH, or hold out by hash "
    "with --set data.split=hash",
)
"""The rows, from 0, that make up the standard test set."""


def zinc250k_source(path: Path | None = None) -> Source:
    """ZINC250k in the order of the published file, numbered by its rows from 1.

    Args:
        path: A copy of the file; by default it is downloaded when the molecules are asked for.
    """

    def smiles() -> Iterator[str]:
        return iterate_smiles(path or fetch(ZINC250K))

    return Source("zinc250k", ZINC250K.sha256[:12], {"all": lambda: _numbered(smiles)})


def load_zinc250k(path: Path | None = None) -> MoleculeDataset:
    """ZINC250k; its `ids` are rows from 1.

    Raises `MolflddError` if it cannot be downloaded, and what `cached_dataset` raises.
    """
    return cached_dataset(zinc250k_source(path))


def _split_zinc250k(
    dataset: MoleculeDataset, fraction: float
) -> tuple[MoleculeDataset, MoleculeDataset]:
    """The standard division, whatever the fraction."""
    return split_by_file(dataset, fetch(ZINC250K_TEST), "rows")


# --- MOSES


def moses_source() -> Source:
    """MOSES as the package molsets gives it: the parts train, test and test_scaffolds.

    The molecules of each part are numbered by its rows from 1. Raises `MolflddError` if molsets
    is not installed.
    """
    files = {part: moses_file(f"{part}.csv.gz") for part in PARTS}
    parts = {
        part: partial(_numbered, partial(iterate_smiles, path)) for part, path in files.items()
    }
    return Source("moses", f"molsets{importlib.metadata.version('molsets')}", parts)


def load_moses() -> MoleculeDataset:
    """MOSES in its parts, one after another. Raises what its source and `cached_dataset` raise."""
    return cached_dataset(moses_source())


# --- files

FILE = "file"
"""The name that stands for the molecules of a file."""


def _no_file() -> MoleculeDataset:
    raise UsageError(
        f"the data set '{FILE}' stands for a file of yours; name it, as in molfldd train my.smi, "
        "or by the config key 'data.path'"
    )


def _checksum(path: Path) -> str:
    """SHA-256 (hex) of a file; raises `UsageError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check the path") from error


def file_source(
    path: Path, column: str | None = None, rules: Rules | None = None, distinct: bool = True
) -> Source:
    """The molecules of a file, numbered by lines, rows or records from 1.

    Args:
        path: See `molfldd.molecules.files.iterate_smiles`.
        column: Of the SMILES in a table.
        rules: Which molecules are left out.
        distinct: See `Source`.

    Raises:
        UsageError: if the file cannot be read.
    """
    rules = rules or Rules()
    atoms = None if rules.vocabulary is None else rules.vocabulary.to_json()
    options = [_checksum(path), unit(path), column, rules.max_atoms, atoms, distinct]
    version = hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]
    entries = partial(_numbered, partial(iterate_smiles, path, column))
    return Source(path.name, version, {"all": entries}, rules, distinct)


def load_file(
    path: Path, column: str | None = None, rules: Rules | None = None, name: str = FILE
) -> MoleculeDataset:
    """The distinct molecules of a file, ordered by the hash of their SMILES.

    Args:
        path: See `molfldd.molecules.files.iterate_smiles`.
        column: Of the SMILES in a table.
        rules: Which molecules are left out.
        name: The data set that the file is a copy of. Its published file gives exactly that data
            set; any other file is read as one of the user's, and a line on stderr says so.

    Returns:
        The data set; `ids` are the numbers, from 1, of lines, rows or records.

    Raises:
        UsageError: if the file cannot be read.
        MolflddError: if it holds no usable molecule, or the cache cannot be written.
    """
    published = DATASETS[name].published if name in DATASETS else None
    if published is not None and published.sha256 == _checksum(path):
        return published.load(path)
    if published is not None:
        _say(f"{path} is not the published file of {name} (its SHA-256 differs): read as any file")
    return cached_dataset(file_source(path, column, rules))


# --- the known ones


@dataclass(frozen=True)
class Published:
    """The one file that a data set is read from, which users may have a copy of.

    Attributes:
        sha256: Checksum of its content, hex.
        load: The data set from a copy.
    """

    sha256: str
    load: Callable[[Path], MoleculeDataset]


@dataclass(frozen=True)
class DatasetInfo:
    """A data set known by name.

    Attributes:
        loader: Loads it.
        summary: What it is.
        extra: The extra of molfldd that brings it; None if none does.
        origin: How else it comes.
        divide: Its own division into a training and a test part, given a fraction.
        published: The file it is read from, if it is one file.
        statistics: FCD statistics of its test part that come with it; computed where it is None,
            or gives None.
    """

    loader: Callable[[], MoleculeDataset]
    summary: str
    extra: str | None = None
    origin: str = ""
    divide: Callable[[MoleculeDataset, float], tuple[MoleculeDataset, MoleculeDataset]] = split
    published: Published | None = None
    statistics: Callable[[], Statistics | None] | None = None


DATASETS: dict[str, DatasetInfo] = {
    "qm9": DatasetInfo(
        load_qm9, "130,831 organic molecules with up to 9 heavy atoms (C, N, O, F)", "qm9"
    ),
    "zinc250k": DatasetInfo(
        load_zinc250k,
        "249,455 drug-like molecules with up to 38 heavy atoms",
        origin="downloaded when first used, 23 MB",
        divide=_split_zinc250k,
        published=Published(ZINC250K.sha256, load_zinc250k),
    ),
    "moses": DatasetInfo(
        load_moses,
        "1,936,962 drug-like molecules with up to 27 heavy atoms, in three parts",
        origin="pip install --no-deps molsets",
        divide=split_by_part,
        statistics=moses_statistics,
    ),
    FILE: DatasetInfo(
        _no_file,
        "your own molecules: .smi, .txt, .csv, .tsv or .sdf, also with .gz",
        origin="molfldd train FILE",
    ),
}
"""The data sets that can be loaded by name."""


def load_dataset(name: str) -> MoleculeDataset:
    """Data set of a name in `DATASETS`; raises `UsageError` for another name."""
    if name not in DATASETS:
        raise UsageError(f"there is no data set {name!r}; known are: {', '.join(DATASETS)}")
    return DATASETS[name].loader()
