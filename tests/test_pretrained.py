"""The models that come with the package."""

import pytest

import molfldd
from molfldd.model import load_diffusion, pretrained, pretrained_path
from molfldd.molecules.metrics import valid


@pytest.mark.parametrize(("name", "steps"), [("qm9", 10), ("qm9-49k", 10), ("mnist", 4)])
def test_models_are_small_and_for_few_steps(name: str, steps: int) -> None:
    assert pretrained_path(name).stat().st_size <= 10_000_000
    assert molfldd.load_pretrained(name).steps == steps


@pytest.mark.parametrize("name", ["qm9", "mnist"])
def test_models_keep_their_forward_process(name: str) -> None:
    assert load_diffusion(pretrained_path(name)).steps == molfldd.load_pretrained(name).steps


def test_digits_are_not_noise() -> None:
    (first, *_) = images = molfldd.load_pretrained("mnist").sample(20, seed=0)
    assert first.shape == (28, 28)
    white = [float((image > 0).mean()) for image in images]
    assert 0.05 < sum(white) / len(white) < 0.25  # 13 % of the pixels of MNIST are white


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
