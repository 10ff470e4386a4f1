"""What a step of the reverse process says of z_s, and how states are drawn from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from molfldd.core.blocks import Codes, Masks
from molfldd.core.joint import JointDraw, independent

NEVER = -1e9
"""Log-probability of the impossible; finite, so that gradients stay finite."""


Change = Callable[[str, Tensor], Tensor]
"""Other log-probabilities (..., S) for those of a block of a name."""


@dataclass(frozen=True)
class Sharpness:
    """How much an element prefers those of the data's categories that are likely anyway.

    The sum of their probabilities is kept: what is beyond the data, the mask, comes as often as
    the model says.

    Attributes:
        temperature: Probabilities are taken to the power of 1 / temperature. Below 1 the likelier
            ones get likelier, above 1 less likely.
        min_p: Categories less than this times as likely as the likeliest one, by the model itself,
            never come (min-p sampling; Nguyen et al., 2025).
    """

    temperature: float = 1.0
    min_p: float = 0.0

    def __call__(self, log_probs: Tensor, categories: int) -> Tensor:
        """Sharpened log v, (..., S) nats, of which the first ones are the data's categories."""
        values, beyond = log_probs[..., :categories], log_probs[..., categories:]
        sum_kept = torch.logsumexp(values, -1, keepdim=True)
        likely = (values - values.amax(-1, keepdim=True)).exp() >= self.min_p
        values = torch.where(likely, values, NEVER) / self.temperature
        return torch.cat([torch.log_softmax(values, -1) + sum_kept, beyond], -1)


AS_IT_IS = Sharpness()
"""The model's own probabilities."""


@dataclass(frozen=True)
class Hand:
    """What a law is given to draw with: random numbers, and the manner of using them.

    Attributes:
        mask: Elements that exist, (B, n) bool per block.
        numbers: Uniform in [0, 1), (B, n, ``joint.NUMBERS``) per block.
        choice: One more for each example, (B,).
        joint: How the elements of a block are drawn together; independently if it is not named.
    """

    mask: Masks
    numbers: Mapping[str, Tensor]
    choice: Tensor
    joint: Mapping[str, JointDraw]

    def joint_draw(self, name: str, probs: Tensor) -> Tensor:
        """Outcomes of a block's elements, (B, n) int64, from their probabilities (B, n, S)."""
        draw = self.joint.get(name, independent)
        return draw(probs, self.mask[name], self.numbers[name])


class Law(ABC):
    """p_theta(z_s | z_t) of a batch."""

    @abstractmethod
    def log_prob(self, z: Codes, mask: Masks) -> Tensor:
        """log p_theta(z_s | z_t) of states z_s (B, n) int64 per block, (B,) nats."""

    @abstractmethod
    def changed(self, change: Change) -> Law:
        """The law with other probabilities of the states of its elements."""

    @abstractmethod
    def draw(self, hand: Hand) -> dict[str, Tensor]:
        """States z_s, (B, n) int64 per block."""
