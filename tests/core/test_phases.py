"""Rates of a phase, impossible phases and options, and batches within a budget of elements."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from molfldd.core.estimators import Pathwise
from molfldd.core.phases import Phase, TrainingOptions


def test_rates_rise_linearly_then_fall_along_a_cosine() -> None:
    phase = Phase("p", 14, Pathwise(), warmup=4, schedule="cosine")
    rates = [phase.rate(done) for done in range(15)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[9] == pytest.approx(0.5)
    assert rates[14] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b for a, b in pairwise(rates[4:]))


def test_constant_rates_stay() -> None:
    phase = Phase("p", 10, Pathwise(), warmup=2)
    assert [phase.rate(done) for done in (0, 1, 2, 9)] == [0.5, 1, 1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": 0},
        {"lr_forward": -1e-3},
        {"lr_reverse": 0.0},
        {"lr_reverse": math.nan},
        {"lr_forward": math.inf},
        {"warmup": -1},
        {"time_power": math.nan},
        {"ema_decay": 1.0},
    ],
)
def test_impossible_phases_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'p'"):
        Phase(**{"name": "p", "iterations": 1, "estimator": Pathwise(), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": "auto"},
        {"elements": 0},
        {"steps_per_example": 0},
        {"grouped": 0},
        {"ema_decay": 1.0},
        {"ema_decay": math.nan},
        {"clip": 0.0},
        {"clip": math.nan},
        {"weight_decay": -0.1},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingOptions(**wrong)


@pytest.mark.parametrize(
    ("elements", "largest", "processes", "each", "expected"),
    [
        (None, 10_000, 1, 1, 128),
        (128 * 45, 45, 1, 1, 128),
        (128 * 45 - 1, 45, 1, 1, 127),
        (128 * 45, 45, 1, 2, 64),
        (32_768, 741, 1, 1, 44),
        (32_768, 741, 3, 1, 42),
        (100, 5050, 1, 1, 1),
        (100, 5050, 4, 3, 4),
    ],
)
def test_batches_keep_to_the_budget_of_elements(
    elements: int | None, largest: int, processes: int, each: int, expected: int
) -> None:
    given = TrainingOptions(batch_size=128, elements=elements, steps_per_example=each)
    options = given.for_examples(largest, processes)
    assert options.batch_size == expected
    assert options.batch_size == options.share(processes) * processes


@pytest.mark.parametrize(
    ("elements", "largest", "processes", "each", "expected"),
    [(32_768, 45, 1, 1, 728), (32_768, 741, 3, 1, 42), (100, 5050, 4, 3, 4)],
)
def test_an_automatic_batch_takes_all_of_the_budget(
    elements: int, largest: int, processes: int, each: int, expected: int
) -> None:
    given = TrainingOptions(batch_size="auto", elements=elements, steps_per_example=each)
    with pytest.raises(ValueError, match="not known"):
        given.share(processes)
    assert given.for_examples(largest, processes).batch_size == expected
