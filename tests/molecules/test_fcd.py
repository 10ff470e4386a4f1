"""The statistics against fcd-torch's own, what distances depend on, and their cache."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from fcd_torch import FCD
from rdkit import Chem

from molfldd.errors import MolflddError
from molfldd.molecules import fcd as module
from molfldd.molecules.fcd import content_hash, fcd, reference_statistics, statistics

ALCOHOLS = [f"{'C' * length}{tail}" for length in range(1, 10) for tail in ("O", "CO", "(O)C=O")]
RINGS = [f"C1CC{'C' * size}1{tail}" for size in range(6) for tail in ("", "N", "O", "F", "C#N")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_same_set_has_no_distance() -> None:
    assert abs(fcd(ALCOHOLS, ALCOHOLS)) < 1e-4


def test_other_set_has_a_distance() -> None:
    assert fcd(ALCOHOLS, RINGS) > 1


def test_order_and_spelling_do_not_matter() -> None:
    shuffled = random.Random(0).sample(ALCOHOLS, len(ALCOHOLS))
    respelled = [Chem.MolToSmiles(Chem.MolFromSmiles(s), rootedAtAtom=0) for s in ALCOHOLS]
    assert fcd(shuffled, RINGS) == fcd(respelled, RINGS) == fcd(ALCOHOLS, RINGS)


def test_statistics_are_those_of_fcd_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "row_stack", np.vstack, raising=False)
    repeated = [*ALCOHOLS, *ALCOHOLS[:7], ALCOHOLS[0], "C[C@H](N)O", "C[C@@H](N)O"]
    activations = FCD().get_predictions(repeated).astype(np.float64)
    ours = statistics(repeated)
    assert ours.count == len(repeated)
    assert ours.mean == pytest.approx(activations.mean(0), abs=1e-6)
    assert ours.covariance == pytest.approx(np.cov(activations.T), abs=1e-6)


def test_stereo_is_seen() -> None:
    first, second = statistics(["C[C@H](N)O", "CCO"]), statistics(["CC(N)O", "CCO"])
    assert not np.allclose(first.mean, second.mean)


@pytest.mark.parametrize("smiles", [[], ["CCO"]])
def test_too_few_molecules(smiles: list[str]) -> None:
    with pytest.raises(
        MolflddError, match=f"two molecules on each side, but there are {len(smiles)}"
    ):
        fcd(smiles, ALCOHOLS)


@pytest.mark.parametrize(
    ("smiles", "message"), [("C1CC", "cannot read .*'C1CC'"), ("CC.O", "several fragments")]
)
def test_molecules_that_chemnet_must_not_get(smiles: str, message: str) -> None:
    with pytest.raises(MolflddError, match=message):
        fcd([*ALCOHOLS, smiles], ALCOHOLS)
    with pytest.raises(MolflddError, match=message):
        fcd(ALCOHOLS, [*ALCOHOLS, smiles])


def test_content_hash_is_that_of_the_sorted_lines() -> None:
    assert content_hash(["CO", "CC"]) == hashlib.sha256(b"CC\nCO\n").hexdigest()
    assert content_hash(["CC", "CO"]) == content_hash(["CO", "CC"])
    assert len({content_hash(x) for x in ([], ["CC"], ["CC", "CC"], ["CCCC"], ["CC", "CO"])}) == 5


def test_reference_is_computed_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = reference_statistics(ALCOHOLS)
    monkeypatch.setattr(module, "statistics", lambda smiles: pytest.fail("computed again"))
    cached = reference_statistics(ALCOHOLS[::-1])
    assert cached.count == computed.count == len(ALCOHOLS)
    assert np.array_equal(cached.mean, computed.mean)
    assert np.array_equal(cached.covariance, computed.covariance)
    assert [path.name for path in cache.iterdir()] == [
        path.name for path in cache.glob(f"fcd-{content_hash(ALCOHOLS)}-*.npz")
    ]


@pytest.mark.parametrize("kept", [0, 100, 20_000])
def test_damaged_cache_is_computed_again(cache: Path, kept: int) -> None:
    computed = reference_statistics(ALCOHOLS)
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    assert np.array_equal(reference_statistics(ALCOHOLS).mean, computed.mean)
    assert np.load(path, allow_pickle=False)["count"] == len(ALCOHOLS)


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(MolflddError, match="set MOLFLDD_CACHE"):
        reference_statistics(ALCOHOLS)
