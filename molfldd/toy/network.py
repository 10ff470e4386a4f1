"""A residual multilayer perceptron over the two coordinates of a point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from molfldd.core.blocks import Masks, Probs
from molfldd.nn.layers import ResidualLayer, TimeEmbedding, feed_forward, zero_linear

COORDINATES = "coordinates"
"""Name of the only block."""


@dataclass(frozen=True)
class PerceptronConfig:
    """Size of the network.

    Attributes:
        layers: Number of residual feed-forward layers.
        width: Channels.
    """

    layers: int = 2
    width: int = 128

    def __post_init__(self) -> None:
        if min(self.layers, self.width) < 1:
            raise ValueError("layers and width must be at least 1")


class PerceptronLayer(ResidualLayer):
    """A normalized feed-forward layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.feed_forward = feed_forward(width, 2)

    def outputs(self) -> list[nn.Module]:
        """See ``ResidualLayer``."""
        return [self.feed_forward[-1]]

    def forward(self, x: Tensor) -> Tensor:
        """(B, width), updated."""
        updated: Tensor = x + self.feed_forward(self.norm(x))
        return updated


class Perceptron(nn.Module):
    """All coordinates of a point in, features of each coordinate out.

    The coordinates are concatenated, so the network knows which is which, and every output
    depends on all of them.

    Args:
        config: Sizes.
        inputs: Input channels of the block.
        outputs: Output channels of the block.
        coordinates: How many there are.
    """

    def __init__(
        self,
        config: PerceptronConfig,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        coordinates: int = 2,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.time = TimeEmbedding(config.width)
        self.enter = nn.Linear(coordinates * inputs[COORDINATES], config.width)
        self.layers = nn.ModuleList(PerceptronLayer(config.width) for _ in range(config.layers))
        self.leave = nn.Sequential(
            nn.LayerNorm(config.width),
            zero_linear(config.width, coordinates * outputs[COORDINATES]),
        )

    @property
    def readouts(self) -> tuple[nn.Linear, ...]:
        """The last layer."""
        last = self.leave[-1]
        assert isinstance(last, nn.Linear)
        return (last,)

    def forward(self, values: Probs, mask: Masks, time: Tensor) -> dict[str, Tensor]:
        """See ``molfldd.core.network.NetworkFactory``; points have no padding, so no mask."""
        x = self.enter(values[COORDINATES].flatten(1)) + self.time(time)
        for layer in self.layers:
            x = layer(x)
        return {COORDINATES: self.leave(x).unflatten(-1, (self.coordinates, -1))}
