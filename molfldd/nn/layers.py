"""Layers that the networks of several domains share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class ResidualLayer(nn.Module, ABC):
    """A layer that adds to what it is given."""

    @abstractmethod
    def outputs(self) -> list[nn.Module]:
        """The linear maps whose results are added, times a gate."""

    def silence(self) -> None:
        """Add nothing, for now: a network that gets this layer stays the function it was."""
        for output in self.outputs():
            for parameter in output.parameters():
                nn.init.zeros_(parameter)


class TimeEmbedding(nn.Module):
    """Sinusoidal features of the time, ``Clock.reading``, through a small network.

    Args:
        width: Channels of the result.
    """

    frequencies = 16
    """Pairs of sine and cosine."""

    def __init__(self, width: int) -> None:
        super().__init__()
        rates = torch.exp(torch.linspace(0.0, math.log(200.0), self.frequencies))
        self.register_buffer("rates", rates, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * self.frequencies, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, time: Tensor) -> Tensor:
        """Time (B,) to (B, width)."""
        phase = time[:, None] * self.get_buffer("rates")
        embedded: Tensor = self.layers(torch.cat([phase.sin(), phase.cos()], -1))
        return embedded


class Modulation(nn.Module):
    """Scale, shift and gate of each channel from a conditioning vector (adaLN-zero).

    Args:
        condition: Channels of the condition.
        width: Channels of what is modulated.
        branches: How many (scale, shift, gate) triples.
    """

    def __init__(self, condition: int, width: int, branches: int) -> None:
        super().__init__()
        self.branches = branches
        self.linear = nn.Linear(condition, 3 * branches * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(B, C) to one (scale, shift, gate) triple per branch, each (B, 1, width)."""
        parts = self.linear(condition)[:, None].chunk(3 * self.branches, -1)
        return [
            (1 + s, b, 1 + g) for s, b, g in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        ]


def feed_forward(width: int, expansion: int) -> nn.Sequential:
    """Linear, GELU, linear; (..., width) to (..., width)."""
    return nn.Sequential(
        nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
    )


def small_embedding(count: int, width: int) -> nn.Embedding:
    """An embedding that starts small: at first an element's value says more than its name.

    torch's own starts at a standard deviation of 1, far above what is embedded by a linear layer,
    and then takes long to be anything but noise.
    """
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts at zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
