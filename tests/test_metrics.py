"""The Fréchet distance against closed forms and SciPy."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from molfldd.metrics import Statistics, frechet_distance


def gaussian(seed: int, dimension: int, rank: int) -> Statistics:
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(dimension, rank))
    return Statistics(generator.normal(size=dimension), factor @ factor.T, rank + 1)


def by_square_root_of_product(first: Statistics, second: Statistics) -> float:
    root = sqrtm(first.covariance @ second.covariance)
    shift = np.square(first.mean - second.mean).sum()
    return float(shift + np.trace(first.covariance + second.covariance - 2 * root).real)


@pytest.mark.parametrize("dimension", [2, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_distance_agrees_with_scipy(dimension: int, seed: int) -> None:
    first = gaussian(seed, dimension, dimension + 3)
    second = gaussian(seed + 100, dimension, dimension + 3)
    expected = by_square_root_of_product(first, second)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


def test_distance_of_one_dimension_has_a_closed_form() -> None:
    first = Statistics(np.array([1.0]), np.array([[4.0]]), 9)
    second = Statistics(np.array([3.5]), np.array([[0.25]]), 9)
    assert frechet_distance(first, second) == pytest.approx(2.5**2 + (2 - 0.5) ** 2, abs=1e-12)


def test_distance_of_singular_covariances() -> None:
    first, second = gaussian(0, 30, 4), gaussian(1, 30, 7)
    along = Statistics(first.mean, 9 * first.covariance, 5)
    assert abs(frechet_distance(first, first)) < 1e-5
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))
    assert frechet_distance(first, along) == pytest.approx(4 * np.trace(first.covariance))


def test_statistics_of_features() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3))
    found = Statistics.of(features)
    assert found.count == 50
    assert found.mean == pytest.approx(features.sum(0) / 50)
    centered = features - found.mean
    assert found.covariance == pytest.approx(centered.T @ centered / 49)
