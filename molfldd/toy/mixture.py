"""A mixture of two Gaussians on a lattice (Section 4.1), with its exact probabilities.

Each Gaussian is a product over the two coordinates, the mixture is not: one factorized step can
draw either Gaussian, but it takes two steps to choose one and then draw from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Point = tuple[float, float]


@dataclass(frozen=True)
class GaussianMixture:
    """Two isotropic Gaussians, each restricted to the cells (i, j) of a lattice and normalized.

    Attributes:
        grid: Cells along each coordinate.
        means: Centers of both Gaussians, in cells.
        sigma: Standard deviation of both, in cells.
        weight: Probability of the first Gaussian.
    """

    grid: int = 50
    means: tuple[Point, Point] = ((14.5, 14.5), (34.5, 34.5))
    sigma: float = 4.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.grid < 2:
            raise ValueError(f"grid must be at least 2, got {self.grid}")
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive, got {self.sigma}")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {self.weight}")

    def probabilities(self) -> Tensor:
        """Probability of every cell, (grid, grid) float64; the first index is coordinate 0."""
        first, second = (self._gaussian(mean) for mean in self.means)
        return self.weight * first + (1 - self.weight) * second

    def _gaussian(self, mean: Point) -> Tensor:
        cells = torch.arange(self.grid, dtype=torch.float64)
        axes = [torch.softmax(-0.5 * ((cells - m) / self.sigma) ** 2, -1) for m in mean]
        return torch.outer(*axes)

    def sample(self, count: int, seed: int) -> Tensor:
        """Independent points, (count, 2) int64; the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        cdf = self.probabilities().flatten().cumsum(0)
        cells = torch.searchsorted(cdf, uniform * cdf[-1], right=True)
        return torch.stack([cells // self.grid, cells % self.grid], -1)


def histogram(points: Tensor, grid: int) -> Tensor:
    """Relative frequency of every cell, (N, 2) int64 to (grid, grid) float64."""
    counts = torch.bincount(points[:, 0] * grid + points[:, 1], minlength=grid * grid)
    return (counts.double() / len(points)).view(grid, grid)


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the L1 distance of two distributions of the same shape: 0 if equal, 1 if disjoint."""
    return float((p.double() - q.double()).abs().sum()) / 2


def sampling_floor(p: Tensor, count: int) -> float:
    r"""Mean total variation between p and the histogram of ``count`` samples of p itself.

    A histogram never matches p exactly, so this is what a perfect generator scores, and only the
    excess over it tells about the generator. The count X of a cell is binomial and de Moivre's
    formula gives its mean deviation exactly: with :math:`m = \lfloor np \rfloor + 1`,

    .. math:: E|X - np| = 2 m \binom{n}{m} p^m (1 - p)^{n - m + 1}.

    Args:
        p: Probabilities, any shape.
        count: Number of samples n.
    """
    p = p.double().flatten()
    p = p[(p > 0) & (p < 1)]
    n = torch.tensor(float(count), dtype=torch.float64)
    m = (n * p).floor() + 1
    log_choose = torch.lgamma(n + 1) - torch.lgamma(m + 1) - torch.lgamma(n - m + 1)
    log_deviation = log_choose + m.log() + m * p.log() + (n - m + 1) * torch.log1p(-p)
    return float(log_deviation.exp().sum()) / count
