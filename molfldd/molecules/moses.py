"""MOSES as the package molsets gives it, read without importing it: its code is from 2020."""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import partial
from pathlib import Path

import numpy as np

from molfldd.errors import MolflddError
from molfldd.metrics import Statistics
from molfldd.molecules.cached import cached_dataset, numbered
from molfldd.molecules.files import iterate_smiles
from molfldd.molecules.preparation import Source
from molfldd.molecules.store import MoleculeDataset

PARTS = ("train", "test", "test_scaffolds")

_STATISTICS_SHA256 = {
    "test": "ded25073225a895d4ed17bf1d4223d27560e87ff4cb85786346ca1cc8efa03d3",
    "test_scaffolds": "7b7aba6c1474634a019bebf16f389d554cb9dd1021dfc8c1d1e54430a9f0e7f8",
}


def moses_file(name: str) -> Path:
    """A data file of the package; raises `MolflddError` if it, or the package, is missing."""
    try:
        distribution = importlib.metadata.distribution("molsets")
    except importlib.metadata.PackageNotFoundError as error:
        raise MolflddError(
            "MOSES needs the data in the package molsets: pip install --no-deps molsets"
        ) from error
    path = Path(str(distribution.locate_file(f"moses/dataset/data/{name}")))
    if not path.is_file():
        raise MolflddError(f"the package molsets has no {path.name}; reinstall it")
    return path


def moses_statistics(part: str) -> Statistics | None:
    """FCD statistics of one of the two test parts, as its authors computed them.

    They are what published FCDs on MOSES are against, and spare half an hour of ChemNet. The file
    is a pickle, so only the very one is opened that was published; None for any other, and for
    another part.
    """
    if part not in _STATISTICS_SHA256:
        return None
    path = moses_file(f"{part}_stats.npz")
    if hashlib.sha256(path.read_bytes()).hexdigest() != _STATISTICS_SHA256[part]:
        return None
    content = np.load(path, allow_pickle=True)["stats"].item()
    return Statistics(content["FCD"]["mu"], content["FCD"]["sigma"], len(content["SNN"]["fps"]))


def moses_source() -> Source:
    """MOSES as the package molsets gives it: the parts train, test and test_scaffolds.

    The molecules of each part are numbered by its rows from 1. Raises `MolflddError` if molsets
    is not installed.
    """
    files = {part: moses_file(f"{part}.csv.gz") for part in PARTS}
    parts = {part: partial(numbered, partial(iterate_smiles, path)) for part, path in files.items()}
    return Source("moses", f"molsets{importlib.metadata.version('molsets')}", parts)


def load_moses() -> MoleculeDataset:
    """MOSES in its parts, one after another. Raises what its source and `cached_dataset` raise."""
    return cached_dataset(moses_source())
