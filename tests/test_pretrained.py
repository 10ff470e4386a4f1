"""The models that come with the package."""

import pytest

import molfldd
from molfldd.model import pretrained, pretrained_path
from molfldd.molecules.metrics import valid


def test_the_qm9_model_is_small_and_for_ten_steps() -> None:
    assert pretrained_path("qm9").stat().st_size <= 10_000_000
    assert molfldd.load_pretrained("qm9").steps == 10


def test_most_of_its_molecules_are_valid_and_different() -> None:
    molecules = molfldd.load_pretrained("qm9").sample(300, seed=0)
    smiles = [s for s in map(valid, molecules) if s is not None]
    assert len(smiles) > 0.9 * len(molecules)
    assert len(set(smiles)) > 0.95 * len(smiles)


def test_steps_it_was_not_trained_for_are_refused_with_what_it_has() -> None:
    with pytest.raises(molfldd.UsageError, match=r"not trained for 7 steps; it has: 10"):
        molfldd.load_pretrained("qm9").sample(1, steps=7)


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    assert "qm9" in pretrained()
    with pytest.raises(molfldd.UsageError, match=r"embedded are: .*qm9"):
        molfldd.load_pretrained("qm10")
