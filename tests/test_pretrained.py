"""The models that come with the package."""

import pytest

import molfldd
from molfldd.model import Manner, Model, load_diffusion, pretrained, pretrained_path, variant
from molfldd.molecules.metrics import valid

STEPS = {"qm9": 10, "qm9-4steps": 4, "qm9-100steps": 100, "moses": 10, "zinc250k": 10, "mnist": 4}


def test_all_are_tested_here() -> None:
    assert set(pretrained()) == set(STEPS)


@pytest.mark.parametrize(("name", "steps"), STEPS.items())
def test_models_are_small_and_for_few_steps(name: str, steps: int) -> None:
    assert pretrained_path(name).stat().st_size <= 20_000_000
    assert molfldd.load_pretrained(name).steps == steps


@pytest.mark.parametrize("name", STEPS)
def test_models_keep_their_forward_process(name: str) -> None:
    assert load_diffusion(pretrained_path(name)).steps == molfldd.load_pretrained(name).steps


def test_digits_are_not_noise() -> None:
    (first, *_) = images = molfldd.load_pretrained("mnist").sample(20, seed=0)
    assert first.shape == (28, 28)
    white = [float((image > 0).mean()) for image in images]
    assert 0.05 < sum(white) / len(white) < 0.25  # 13 % of the pixels of MNIST are white


def valid_ones(model: Model, count: int) -> list[str]:
    return [s for s in map(valid, model.sample(count, seed=0)) if s is not None]


@pytest.mark.parametrize(
    ("name", "count"), {"qm9": 300, "qm9-4steps": 300, "qm9-100steps": 60}.items()
)
def test_nearly_all_of_its_molecules_are_valid_and_different(name: str, count: int) -> None:
    smiles = valid_ones(molfldd.load_pretrained(name), count)
    assert len(smiles) > 0.98 * count - 1
    assert len(set(smiles)) > 0.95 * len(smiles)


def test_drug_like_molecules_with_charges_are_drawn() -> None:
    smiles = valid_ones(molfldd.load_pretrained("zinc250k"), 60)
    assert len(smiles) > 0.7 * 60
    assert any("+" in entry for entry in smiles)
    assert len(set(smiles)) == len(smiles)


def test_balanced_draws_contradict_themselves_less_than_independent_ones() -> None:
    model = molfldd.load_pretrained("moses")
    balanced = valid_ones(model, 150)
    assert len(balanced) > 0.65 * 150
    assert len(set(balanced)) == len(balanced)
    assert len(valid_ones(model.drawing(Manner("independent")), 150)) < len(balanced) - 5


@pytest.mark.parametrize("name", ["qm9", "qm9-4steps"])
def test_drawn_one_after_another_elements_need_no_balance(name: str) -> None:
    model = molfldd.load_pretrained(name)
    with pytest.raises(molfldd.UsageError, match="one element after another"):
        model.drawing(Manner("balanced"))


def test_a_number_of_steps_finds_its_model() -> None:
    assert variant("qm9", 4) == "qm9-4steps"
    assert variant("qm9", 100) == "qm9-100steps"
    assert variant("qm9", 10) == variant("qm9", None) == variant("qm9", 7) == "qm9"


def test_steps_it_was_not_trained_for_are_refused_with_what_it_has() -> None:
    with pytest.raises(molfldd.UsageError, match=r"not trained for 7 steps; it has: 10"):
        molfldd.load_pretrained("qm9").sample(1, steps=7)


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    assert "qm9" in pretrained()
    with pytest.raises(molfldd.UsageError, match=r"embedded are: .*qm9"):
        molfldd.load_pretrained("qm10")
