"""Fréchet ChemNet Distance (FCD): how far two sets of molecules are apart, 0 for the same set.

The network and its input are those of the package fcd-torch; the distance itself is that of
`molfldd.metrics`, by symmetric eigendecompositions in float64. It depends on the number of
molecules on both sides (fewer give a larger one) and on stereochemistry, so it belongs with its
protocol.
"""

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from fcd_torch import FCD
from fcd_torch.utils import SmilesDataset
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molfldd.errors import MolflddError
from molfldd.metrics import Statistics, frechet_distance
from molfldd.molecules.codec import parse_smiles
from molfldd.progress import shown
from molfldd.storage import cache_directory, read_cache, write_cache

FCD_TORCH_VERSION = importlib.metadata.version("fcd-torch")

_BATCH = 500
_BATCHES_WORTH_A_BAR = 4


def fcd(smiles: Sequence[str], reference: Sequence[str]) -> float:
    """FCD of molecules against reference molecules, whose statistics are cached.

    Molecules that occur several times count several times; the order does not matter. The network
    sees stereochemistry where a SMILES has it. Takes about a minute for 10,000 molecules.
    Raises `MolflddError` for fewer than two molecules on a side, for a SMILES that RDKit cannot
    read or that has several fragments (ChemNet would see the first only), and for a cache that
    cannot be written.
    """
    return frechet_distance(statistics(smiles), reference_statistics(reference))


def statistics(smiles: Iterable[str]) -> Statistics:
    """Statistics of the 512 ChemNet activations of molecules, repetitions counted.

    Raises `MolflddError` as `fcd` does.
    """
    counts = Counter(_chemnet_smiles(entry) for entry in smiles)
    if counts.total() < 2:
        raise MolflddError(
            f"FCD needs two molecules on each side, but there are {counts.total()}; "
            "give more, or leave the reference out"
        )
    different = sorted(counts)
    weights = np.array([counts[entry] for entry in different])
    features = activations(different)
    return Statistics(
        np.average(features, axis=0, weights=weights),
        np.cov(features, rowvar=False, fweights=weights),
        counts.total(),
    )


def _chemnet_smiles(smiles: str) -> str:
    """Canonical SMILES as ChemNet gets it: stereochemistry is kept."""
    mol = parse_smiles(smiles)
    if mol is None:
        raise MolflddError(f"RDKit cannot read the SMILES {smiles!r}; remove it from the list")
    if "." in smiles:
        raise MolflddError(
            f"FCD is not defined for several fragments, as in {smiles!r}; keep one of them"
        )
    return Chem.MolToSmiles(mol)


def activations(smiles: Sequence[str]) -> NDArray[np.float64]:
    """ChemNet activations (N, 512) of N canonical SMILES."""
    inputs = SmilesDataset(smiles, canonize=False)
    starts = range(0, len(smiles), _BATCH)
    short = len(starts) < _BATCHES_WORTH_A_BAR
    return np.concatenate(
        [
            _run_chemnet([inputs[row] for row in range(start, min(start + _BATCH, len(smiles)))])
            for start in shown(starts, "FCD: running ChemNet", quiet=short)
        ]
    )


@cache
def _chemnet() -> torch.nn.Module:
    model: torch.nn.Module = FCD(device="cpu").model
    return model


def _run_chemnet(inputs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Activations (B, 512) of B SMILES, each (length, symbols)."""
    batch = torch.from_numpy(np.stack(inputs)).float().transpose(1, 2)
    with torch.inference_mode():
        activations: NDArray[np.float64] = _chemnet()(batch).double().numpy()
    return activations


def content_hash(smiles: Collection[str]) -> str:
    """SHA-256 (hex) of the SMILES as sorted lines, so that their order does not matter.

    For a file with one SMILES a line it is what ``LC_ALL=C sort file | sha256sum`` prints.
    """
    return hashlib.sha256("".join(f"{entry}\n" for entry in sorted(smiles)).encode()).hexdigest()


def reference_statistics(smiles: Sequence[str]) -> Statistics:
    """Statistics of reference molecules, read from the cache if they have been computed before.

    The file is named after the `content_hash` of the SMILES and the versions of fcd-torch and
    RDKit, in the directory `molfldd.storage.cache_directory` names. Raises
    `MolflddError` as `fcd` does.
    """
    path = _cache_file(smiles)
    cached = _read(path)
    if cached is None:
        cached = statistics(smiles)
        _write(path, cached)
    return cached


def remember(smiles: Sequence[str], known: Callable[[], Statistics | None]) -> None:
    """Put known statistics of reference molecules into the cache, if it has none and there are any.

    Raises `MolflddError` for a cache that cannot be written.
    """
    path = _cache_file(smiles)
    if _read(path) is None and (found := known()) is not None:
        _write(path, found)


def _cache_file(smiles: Sequence[str]) -> Path:
    versions = f"fcdtorch{FCD_TORCH_VERSION}-rdkit{rdBase.rdkitVersion}"
    return cache_directory() / f"fcd-{content_hash(smiles)}-{versions}.npz"


def _read(path: Path) -> Statistics | None:
    """Statistics of a cache file; None if there is none or it is damaged."""
    try:
        content = read_cache(path)
        return Statistics(content["mean"], content["covariance"], int(content["count"]))
    except (MolflddError, KeyError, ValueError):
        return None


def _write(path: Path, computed: Statistics) -> None:
    """Write a cache file."""
    count = np.array(computed.count)
    write_cache(path, {"mean": computed.mean, "covariance": computed.covariance, "count": count})
