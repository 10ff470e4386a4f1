"""The Fréchet distance between two sets of feature vectors, whatever they are features of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean (F,) and covariance (F, F) of the features of `count` examples, float64."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int

    @classmethod
    def of(cls, features: NDArray[np.float64]) -> Statistics:
        """Those of features (N, F); N must be at least 2."""
        return cls(features.mean(0), np.cov(features, rowvar=False), len(features))


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2): squared Fréchet distance of Gaussians.

    Works for singular covariances. Rounding can make it about -1e-6 for equal statistics.
    """
    root = _square_root(first.covariance)
    eigenvalues = np.linalg.eigvalsh(_symmetric(root @ second.covariance @ root))
    overlap = np.sqrt(eigenvalues.clip(min=0)).sum()
    shift = np.square(first.mean - second.mean).sum()
    return float(shift + first.covariance.trace() + second.covariance.trace() - 2 * overlap)


def _symmetric(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return (matrix + matrix.T) / 2


def _square_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of a symmetric positive semidefinite matrix."""
    eigenvalues, vectors = np.linalg.eigh(_symmetric(matrix))
    root: NDArray[np.float64] = (vectors * np.sqrt(eigenvalues.clip(min=0))) @ vectors.T
    return root
