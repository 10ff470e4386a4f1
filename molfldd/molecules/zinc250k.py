"""ZINC250k and its standard test set, downloaded when first used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from molfldd.download import Download, fetch
from molfldd.molecules.cached import cached_dataset, numbered
from molfldd.molecules.files import iterate_smiles
from molfldd.molecules.preparation import Source
from molfldd.molecules.splits import split_by_file
from molfldd.molecules.store import MoleculeDataset

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

    return Source("zinc250k", ZINC250K.sha256[:12], {"all": lambda: numbered(smiles)})


def load_zinc250k(path: Path | None = None) -> MoleculeDataset:
    """ZINC250k; its `ids` are rows from 1.

    Raises `MolflddError` if it cannot be downloaded, and what `cached_dataset` raises.
    """
    return cached_dataset(zinc250k_source(path))


def split_zinc250k(
    dataset: MoleculeDataset, fraction: float
) -> tuple[MoleculeDataset, MoleculeDataset]:
    """The standard division, whatever the fraction."""
    return split_by_file(dataset, fetch(ZINC250K_TEST), "rows")
