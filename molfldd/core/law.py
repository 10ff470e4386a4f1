"""What a step of the reverse process says of z_s, and how states are drawn from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from molfldd.core.blocks import Codes, Masks
from molfldd.core.joint import JointDraw, independent

NEVER = -1e9
"""Log-probability of the impossible; finite, so that gradients stay finite."""


def sharpened(log_probs: Tensor, categories: int, temperature: float) -> Tensor:
    """Probabilities of the data's categories to the power of 1 / temperature, their sum kept.

    What is beyond the data, the mask, thus comes as often as the model says.

    Args:
        log_probs: log v, (B, n, S) nats.
        categories: K, of the states.
        temperature: Below 1 the likelier ones get likelier, above 1 less likely.
    """
    values, beyond = log_probs[..., :categories], log_probs[..., categories:]
    sum_kept = torch.logsumexp(values, -1, keepdim=True)
    return torch.cat([torch.log_softmax(values / temperature, -1) + sum_kept, beyond], -1)


@dataclass(frozen=True)
class Hand:
    """What a law is given to draw with: random numbers, and the manner of using them.

    Attributes:
        mask: Elements that exist, (B, n) bool per block.
        numbers: Uniform in [0, 1), (B, n, ``joint.NUMBERS``) per block.
        choice: One more for each example, (B,).
        categories: K of each block.
        joint: How the elements of a block are drawn together; independently if it is not named.
        temperature: See ``sharpened``.
    """

    mask: Masks
    numbers: Mapping[str, Tensor]
    choice: Tensor
    categories: Mapping[str, int]
    joint: Mapping[str, JointDraw]
    temperature: float

    def states(self, name: str, log_probs: Tensor) -> Tensor:
        """States of a block at the temperature, (B, n) int64, from log v (B, n, S)."""
        if self.temperature != 1:
            log_probs = sharpened(log_probs, self.categories[name], self.temperature)
        return self.joint_draw(name, log_probs.exp())

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
    def draw(self, hand: Hand) -> dict[str, Tensor]:
        """States z_s, (B, n) int64 per block."""
