"""What a step of the reverse process says of z_s, its transition kernel, and how it is drawn."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from molfldd.core.blocks import Codes, Masks
from molfldd.core.joint import JointDraw, independent

NEVER = -1e9
"""Log-probability of the impossible; finite, so that gradients stay finite."""


COLDEST = 1e-4
"""Below this temperature log p / T is beyond what single precision can hold."""

Change = Callable[[str, Tensor], Tensor]
"""Other log-probabilities (..., S) for those of a block of a name."""


@dataclass(frozen=True)
class Sharpness:
    """How much an element prefers what is likely anyway.

    Attributes:
        temperature: Probabilities of the data's categories are taken to the power of
            1 / temperature. Below 1 the likelier ones get likelier, above 1 less likely.
        min_p: Categories less than this times as likely as the likeliest one never come (min-p
            sampling; Nguyen et al., 2025).
            What is left is then taken to that power.
        min_reveal: The same of being revealed, as any of the categories, and staying masked.

    Raises:
        ValueError: if the temperature is not finite or below ``COLDEST``, or one of the others not
            in [0, 1).
    """

    temperature: float = 1.0
    min_p: float = 0.0
    min_reveal: float = 0.0

    def __post_init__(self) -> None:
        if not COLDEST <= self.temperature < math.inf:
            raise ValueError(
                f"the temperature must be at least {COLDEST:g} and finite, got {self.temperature:g}"
            )
        for name in ("min_p", "min_reveal"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {value:g}")

    def __call__(self, log_probs: Tensor, categories: int) -> Tensor:
        """Sharpened log v, (..., S) nats, of which the first ones are the data's categories."""
        parts = log_probs[..., :categories], log_probs[..., categories:]
        sums = torch.cat([torch.logsumexp(part, -1, keepdim=True) for part in parts], -1)
        total = torch.logsumexp(sums, -1, keepdim=True)
        revealed, masked = torch.split(total + kept(sums, self.min_reveal), 1, -1)
        values = kept(parts[0], self.min_p) / self.temperature
        beyond = torch.log_softmax(parts[1], -1)
        return torch.cat([torch.log_softmax(values, -1) + revealed, beyond + masked], -1)


def kept(log_probs: Tensor, least: float) -> Tensor:
    """Log-probabilities (..., S) of those at least so many times as likely as the likeliest."""
    likely = (log_probs - log_probs.amax(-1, keepdim=True)).exp() >= least
    return torch.log_softmax(torch.where(likely, log_probs, NEVER), -1)


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
