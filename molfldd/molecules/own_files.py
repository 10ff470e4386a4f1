"""The molecules of a file of the user's."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

from molfldd.errors import UsageError
from molfldd.molecules.cached import numbered
from molfldd.molecules.files import iterate_smiles, unit
from molfldd.molecules.parsing import Rules
from molfldd.molecules.preparation import Source


def checksum(path: Path) -> str:
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
    options = [checksum(path), unit(path), column, rules.max_atoms, atoms, distinct]
    version = hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]
    entries = partial(numbered, partial(iterate_smiles, path, column))
    return Source(path.name, version, {"all": entries}, rules, distinct)
