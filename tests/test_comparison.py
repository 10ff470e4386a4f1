"""What a calibration compares: numbers, and how they go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molfldd.calibration import Comparison

GENERATOR = np.random.default_rng(0)
RINGS = GENERATOR.integers(0, 3, 500)
ATOMS = 2 * RINGS + GENERATOR.integers(1, 4, 500)
FOUND = [
    {"atoms": float(a), **({"rings": float(r)} if r else {})}
    for a, r in zip(ATOMS, RINGS, strict=True)
]


def test_products_of_the_training_data_are_correlations() -> None:
    means = Comparison.of(FOUND, "valid")(FOUND).nanmean(0)
    correlation = np.corrcoef(ATOMS, RINGS)[0, 1]
    expected = [1, ATOMS.mean(), RINGS.mean(), 1, correlation, 1]
    torch.testing.assert_close(means, torch.tensor(expected).float(), rtol=1e-4, atol=1e-4)


def test_other_examples_are_measured_in_units_of_the_training_data() -> None:
    comparison = Comparison.of(FOUND, "valid")
    centre, scale = ATOMS.mean(), ATOMS.std()
    assert comparison.names == ("valid", "atoms", "rings")
    (row,) = comparison([{"atoms": centre + 2 * scale, "rings": RINGS.mean() - RINGS.std()}])
    assert row[3:].tolist() == pytest.approx([4, -2, 1], rel=1e-4)


def test_an_example_that_is_not_usable_has_no_other_numbers() -> None:
    (row,) = Comparison.of(FOUND, "valid")([None])
    assert row[0] == 0
    assert row[1:].isnan().all()


def test_rare_numbers_and_the_products_of_others_than_the_commonest_are_left_alone() -> None:
    found = [*FOUND, {"atoms": 1.0, "charge": 1.0}, None]
    comparison = Comparison.of(found, "valid", paired=1)
    assert comparison.names == ("valid", "atoms", "rings")
    assert comparison(found).shape == (502, 1 + 2 + 1)


def test_a_number_that_is_always_the_same_says_nothing() -> None:
    comparison = Comparison.of([{"atoms": 3.0}] * 5, "valid")
    assert comparison([{"atoms": 3.0}]).tolist() == [[1, 3, 0]]
