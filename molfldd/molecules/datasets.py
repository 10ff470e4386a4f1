"""The molecule data sets that can be loaded by name, and those of files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from molfldd.errors import UsageError
from molfldd.messages import say
from molfldd.metrics import Statistics
from molfldd.molecules.cached import cached_dataset
from molfldd.molecules.moses import load_moses, moses_statistics
from molfldd.molecules.own_files import checksum, file_source
from molfldd.molecules.parsing import Rules
from molfldd.molecules.qm9 import load_qm9
from molfldd.molecules.splits import split, split_by_part
from molfldd.molecules.store import MoleculeDataset
from molfldd.molecules.zinc250k import ZINC250K, load_zinc250k, split_zinc250k

FILE = "file"
"""The name that stands for the molecules of a file."""


def _no_file() -> MoleculeDataset:
    raise UsageError(
        f"the data set '{FILE}' stands for a file of yours; name it, as in molfldd train my.smi, "
        "or by the config key 'data.path'"
    )


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
        package: The Python package that brings it; None if none does.
        origin: How to get that package, or how else it comes.
        divide: Its own division into a training and a test part, given a fraction.
        published: The file it is read from, if it is one file.
        statistics: FCD statistics of one of its parts that come with it; computed where it is
            None, or gives None.
    """

    loader: Callable[[], MoleculeDataset]
    summary: str
    package: str | None = None
    origin: str = ""
    divide: Callable[[MoleculeDataset, float], tuple[MoleculeDataset, MoleculeDataset]] = split
    published: Published | None = None
    statistics: Callable[[str], Statistics | None] | None = None


DATASETS: dict[str, DatasetInfo] = {
    "qm9": DatasetInfo(
        load_qm9,
        "130,831 organic molecules with up to 9 heavy atoms (C, N, O, F)",
        package="qm9pack",
        origin='pip install "molfldd[qm9]"',
    ),
    "zinc250k": DatasetInfo(
        load_zinc250k,
        "249,455 drug-like molecules with up to 38 heavy atoms",
        origin="downloaded when first used, 23 MB",
        divide=split_zinc250k,
        published=Published(ZINC250K.sha256, load_zinc250k),
    ),
    "moses": DatasetInfo(
        load_moses,
        "1,936,962 drug-like molecules with up to 27 heavy atoms, in three parts",
        package="molsets",
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


def load_file(
    path: Path, column: str | None = None, rules: Rules | None = None, name: str = FILE
) -> MoleculeDataset:
    """The distinct molecules of a file, ordered by the hash of their SMILES.

    Args:
        path: See `molfldd.molecules.files.iterate_smiles`.
        column: Of the SMILES in a table.
        rules: Which molecules are left out.
        name: The data set that the file is a copy of. Its published file gives exactly that data
            set, unless a column is named or molecules are left out; any other file is read as one
            of the user's, and a line on stderr says so.

    Returns:
        The data set; `ids` are the numbers, from 1, of lines, rows or records.

    Raises:
        UsageError: if the file cannot be read.
        MolflddError: if it holds no usable molecule, or the cache cannot be written.
    """
    published = DATASETS[name].published if name in DATASETS else None
    if published is not None and published.sha256 != checksum(path):
        say(f"{path} is not the published file of {name} (its SHA-256 differs): read as any file")
    elif published is not None and column is None and rules in (None, Rules()):
        return published.load(path)
    elif published is not None:
        say(f"{path} is read as any file, not as {name}, since parts of it are chosen")
    return cached_dataset(file_source(path, column, rules))
