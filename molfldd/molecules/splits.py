"""Training and test part of a data set of molecules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from molfldd.errors import UsageError
from molfldd.molecules.store import MoleculeDataset
from molfldd.splitting import in_test_split

_FIRST_NUMBER = {"gdb": 1, "rows": 0}


def split(
    dataset: MoleculeDataset, fraction: float = 0.1
) -> tuple[MoleculeDataset, MoleculeDataset]:
    """Training and test part by the hash of the SMILES; about `fraction` of it is the test part.

    Raises `UsageError` unless 0 < fraction < 1.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the test fraction is {fraction}; choose one between 0 and 1")
    chosen = (in_test_split(entry, fraction) for entry in dataset.iterate_smiles())
    return _divide(dataset, np.fromiter(chosen, bool, len(dataset)))


def split_by_part(
    dataset: MoleculeDataset, fraction: float
) -> tuple[MoleculeDataset, MoleculeDataset]:
    """The parts "train" and "test" that the source comes in, whatever the fraction."""
    return dataset.part("train"), dataset.part("test")


def split_by_file(
    dataset: MoleculeDataset, path: Path, convention: Literal["gdb", "rows"]
) -> tuple[MoleculeDataset, MoleculeDataset]:
    """Training and test part by a JSON file that lists the test molecules.

    The file holds a list of integers, or a mapping with one under "valid_idxs"; strings of digits
    are accepted. "gdb": they are `ids`, from 1 on. "rows": they are rows of the source, from 0 on,
    so one less than `ids`. Numbers of molecules that the data set leaves out are ignored (QM9: the
    uncharacterised ones).
    Raises `UsageError` if the file cannot be used with this data set.
    """
    numbers = _read_indices(path) + 1 - _FIRST_NUMBER[convention]
    ids = dataset.ids
    last = max(int(ids.max()), dataset.report.read if dataset.report else 0)
    if not numbers.size or numbers.min() < 1 or numbers.max() > last:
        raise UsageError(
            f"the split {path} is empty or exceeds the {last:,} molecules of {dataset.name}, "
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
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UsageError(
            f"cannot read the split {path}: {error!r}; it must be a JSON list of integers "
            'or {"valid_idxs": [...]}'
        ) from error
