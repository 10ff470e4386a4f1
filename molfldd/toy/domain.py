"""Points of a two-dimensional mixture as a domain: the two coordinates are the only block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Self

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Block, Codes, Examples
from molfldd.domain import Data, Domain
from molfldd.toy.mixture import GaussianMixture, histogram, sampling_floor, total_variation
from molfldd.toy.network import COORDINATES, Perceptron, PerceptronConfig


@dataclass(frozen=True)
class MixtureData(GaussianMixture):
    """Which points to train on: the distribution and how many draws of it.

    Attributes:
        examples: Points to draw; the last tenth is held out.
        seed: Names the draws.
    """

    examples: int = 100_000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples < 10:
            raise ValueError(f"examples must be at least 10, got {self.examples}")

    @property
    def distribution(self) -> GaussianMixture:
        """What the points are drawn from."""
        return GaussianMixture(self.grid, self.means, self.sigma, self.weight)


@dataclass(frozen=True)
class Mixture(Domain):
    """Points (i, j) on a lattice; the size of an example is its number of coordinates, always 2.

    Attributes:
        distribution: What the data are drawn from; generated points are measured against it.
    """

    distribution: GaussianMixture

    name = "mixture"
    place = None
    DataConfig = MixtureData
    NetworkConfig = PerceptronConfig

    @classmethod
    def load(cls, config: MixtureData) -> Data:
        """Draw the points and hold out the last tenth."""
        domain = cls(config.distribution)
        points = config.distribution.sample(config.examples, config.seed)
        held_out = config.examples // 10
        train, test = domain.examples(points[:-held_out]), domain.examples(points[-held_out:])
        return Data(domain, train, test, sha256(points.numpy().tobytes()).hexdigest())

    def examples(self, points: Tensor) -> Examples:
        """Points (N, 2) int64 as the core sees them."""
        return Examples(self.blocks, {COORDINATES: points}, torch.full((len(points),), 2))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The coordinates, with one category per cell."""
        return (Block(COORDINATES, self.distribution.grid, Tensor.clone),)

    def network(
        self, config: PerceptronConfig, inputs: Mapping[str, int], outputs: Mapping[str, int]
    ) -> nn.Module:
        """A perceptron."""
        return Perceptron(config, inputs, outputs)

    def decode(self, codes: Codes, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Points (i, j)."""
        return [(i, j) for i, j in codes[COORDINATES].tolist()]

    def quality(self, decoded: Sequence[tuple[int, int]]) -> dict[str, float]:
        """Total variation to the exact data distribution, and what real data would score.

        The total variation of a finite sample is biased upwards, by much when samples are few;
        ``total_variation_floor`` is its mean for as many draws of the data distribution, so the
        difference of the two is the generator's own error (see ``sampling_floor``). For that
        error without any sampling noise see ``molfldd.toy.exact``.
        """
        exact = self.distribution.probabilities()
        sampled = histogram(torch.tensor(decoded).view(-1, 2), self.distribution.grid)
        return {
            "total_variation": total_variation(sampled, exact),
            "total_variation_floor": sampling_floor(exact, len(decoded)),
        }

    def to_json(self) -> dict[str, Any]:
        """The distribution."""
        return asdict(self.distribution)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The domain of a checkpoint."""
        first, second = content["means"]
        means = ((first[0], first[1]), (second[0], second[1]))
        return cls(GaussianMixture(**{**content, "means": means}))
