"""The time discretization: how steps are numbered, of one number of steps T or of several.

A *walk* of T steps visits the times 0, 1/T, ..., 1. A pair of processes has one walk, or several
that share the networks; then a model samples in as many steps as it is asked for. All of them
begin at t = 0, the data. The steps of the first walk are numbered t = 1..T, those of the second go
on from there, and so on; with one walk t is what it is in the paper, and t - 1 is before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Steps = int | Sequence[int]
"""T, or one for each walk."""


class Clock(nn.Module):
    """The steps of all walks; none of it is learned or stored.

    Args:
        steps: T, or one for each walk.

    Attributes:
        walks: T of each walk.
        total: Steps of all walks together.

    Raises:
        ValueError: if a walk has less than 1 step, or two have the same number.
    """

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.walks = (steps,) if isinstance(steps, int) else tuple(steps)
        if not self.walks or min(self.walks) < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if len(set(self.walks)) < len(self.walks):
            raise ValueError(f"numbers of steps must differ, got {steps}")
        self.total = sum(self.walks)
        self._keep("length", [0, *(length for length in self.walks for _ in range(length))])
        self._keep("index", [0, *(i + 1 for length in self.walks for i in range(length))])
        self._keep("walk", [0, *(w for w, length in enumerate(self.walks) for _ in range(length))])

    def _keep(self, name: str, values: list[int]) -> None:
        self.register_buffer(f"_{name}", torch.tensor(values), persistent=False)

    def __str__(self) -> str:
        return f"{' or '.join(str(steps) for steps in self.walks)} steps"

    def length(self, t: Tensor) -> Tensor:
        """T of the walk that the steps t belong to, (B,) int64 to (B,)."""
        return self.get_buffer("_length")[t]

    def index(self, t: Tensor) -> Tensor:
        """Which step of its walk, (B,) int64 in 0..T."""
        return self.get_buffer("_index")[t]

    def fraction(self, t: Tensor) -> Tensor:
        """t / T within the walk, (B,) in [0, 1]."""
        return self.index(t) / self.length(t).clamp(min=1)

    def reading(self, t: Tensor) -> Tensor:
        """``fraction``, plus twice the number of the walk: what a network is told, (B,)."""
        return self.fraction(t) + 2 * self.get_buffer("_walk")[t]

    def before(self, t: Tensor) -> Tensor:
        """s, the step before t > 0 in its walk, (B,) int64."""
        return torch.where(self.index(t) == 1, 0, t - 1)

    def is_last(self, t: Tensor) -> Tensor:
        """Whether t is the end of its walk, pure noise; (B,) bool."""
        return (self.index(t) == self.length(t)) & (t > 0)

    def weights(self, power: float) -> Tensor:
        """(t / T)^power, scaled to a mean of 1 over each walk, (steps of all walks,)."""
        fractions = torch.split(self.fraction(torch.arange(1, self.total + 1)), list(self.walks))
        walks = [fraction**power / (fraction**power).mean() for fraction in fractions]
        return torch.cat(walks)

    def steps(self, length: int) -> range:
        """The steps 1..T of the walk of so many steps.

        Raises:
            ValueError: if there is none.
        """
        if length not in self.walks:
            raise ValueError(f"there is no walk of {length} steps; there are: {self.walks}")
        first = 1 + sum(self.walks[: self.walks.index(length)])
        return range(first, first + length)
