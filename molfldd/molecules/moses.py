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

_STATISTICS_SHA256 = "ded25073225a895d4ed17bf1d4223d27560e87ff4cb85786346ca1cc8efa03d3"


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


def moses_statistics() -> Statistics | None:
    """FCD statistics of the 176,074 molecules of the part ``test``, as its authors computed them.

    They are what published FCDs on MOSES are against, and spare half an hour of ChemNet. The file
    is a pickle, so only the very one is opened that was published; None for any other.
    """
    path = moses_file("test_stats.npz")
    if hashlib.sha256(path.read_bytes()).hexdigest() != _STATISTICS_SHA256:
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
