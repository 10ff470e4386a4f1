"""What training reports of itself, iteration by iteration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from molfldd.core.phases import Phase


@dataclass(frozen=True)
class Iteration:
    """What one iteration of training reports.

    Attributes:
        number: Iterations done so far, this one included.
        phase: The phase it belongs to.
        t: Steps of the examples, M of each, (M * B,).
        kl: KL of each block at those steps, nats, (M * B,) per block.
        gradient_norm: Of "reverse", "forward", "pace" and what else is trained, before clipping.
    """

    number: int
    phase: Phase
    t: Tensor
    kl: dict[str, Tensor]
    gradient_norm: dict[str, float]


class Profile:
    """Running mean of the KL by step and block since the last reset.

    Args:
        steps: T.
        blocks: Names of the blocks.
    """

    def __init__(self, steps: int, blocks: tuple[str, ...]) -> None:
        self.blocks = blocks
        self._sum = torch.zeros(steps, len(blocks))
        self._visits = torch.zeros(steps)

    def add(self, iteration: Iteration) -> None:
        """Count one iteration."""
        rows = iteration.t - 1
        kl = torch.stack([iteration.kl[name].float() for name in self.blocks], -1)
        self._sum, self._visits = self._sum.to(kl.device), self._visits.to(kl.device)
        self._sum.index_add_(0, rows, kl)
        self._visits.index_add_(0, rows, torch.ones_like(rows, dtype=torch.float))

    def reset(self) -> None:
        """Forget everything."""
        self._sum.zero_()
        self._visits.zero_()

    @property
    def kl(self) -> Tensor:
        """Mean KL, nats per example, (T, number of blocks), on the CPU."""
        return (self._sum / self._visits.clamp(min=1)[:, None]).cpu()
