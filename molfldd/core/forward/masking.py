r"""Learned masking (Section 4.3) with a pinned pace.

The network gives every element one score; at step t the element is masked with probability
sigmoid(score + b_t), and b_t is solved for each example so that the mean over its elements is
exactly t/T. The process thus learns *which* elements are masked together and in what order,
never *how many*, and no step can collapse.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from molfldd.core.blocks import Batch, Block, Prior, Probs
from molfldd.core.forward.base import ForwardProcess
from molfldd.core.network import NetworkFactory, apply


def solve_offset(scores: Tensor, mask: Tensor, mean: Tensor, iterations: int = 30) -> Tensor:
    """The offset b with mean_i sigmoid(scores_i + b) = mean, differentiable in the scores.

    Bisection finds the root without gradients; one Newton step from there carries the exact
    implicit derivative.

    Args:
        scores: (B, D); values at padding are ignored.
        mask: Elements that exist, (B, D) bool, at least one per row.
        mean: Target in (0, 1), (B,).
        iterations: Halvings of the bracket.

    Returns:
        b, (B,).
    """
    weight = mask / mask.sum(-1, keepdim=True)

    def mean_at(offset: Tensor) -> Tensor:
        return (torch.sigmoid(scores + offset[:, None]) * weight).sum(-1)

    with torch.no_grad():
        center = torch.logit(mean)
        low = center - scores.masked_fill(~mask, -torch.inf).amax(-1)
        high = center - scores.masked_fill(~mask, torch.inf).amin(-1)
        for _ in range(iterations):
            middle = (low + high) / 2
            above = mean_at(middle) > mean
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        root = (low + high) / 2
        p = torch.sigmoid(scores + root[:, None])
        slope = (p * (1 - p) * weight).sum(-1).clamp(min=1e-6)
    return root - (mean_at(root) - mean) / slope


class MaskingForward(ForwardProcess):
    """u_t = (1 - m_t) onehot(x) + m_t mask, m_t = sigmoid(score(x) + b_t), mean m_t = t/T.

    Args:
        blocks: The blocks of the domain.
        prior: An absorbing prior (all mass on the last state, which the data never takes).
        steps: Number of steps T.
        network: Builds the network; it is asked for one channel per block.

    Raises:
        ValueError: if the prior has no mask state.
    """

    def __init__(
        self, blocks: Sequence[Block], prior: Prior, steps: int, network: NetworkFactory
    ) -> None:
        super().__init__(blocks, prior, steps)
        for block in blocks:
            if prior.states(block.name) != block.categories + 1:
                raise ValueError("learned masking needs an absorbing prior")
        states = {block.name: prior.states(block.name) for block in blocks}
        self.network = network(states, dict.fromkeys(states, 1))

    def encode(self, batch: Batch) -> Probs:
        """One score per element, (B, n, 1) per block; higher means masked earlier."""
        time = torch.zeros_like(batch.sizes, dtype=torch.float)
        return apply(self.network, self.prior.onehot(batch.codes), batch.mask, time)

    def interior(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """Two-point marginals on the data value and the mask; see the class."""
        names = [block.name for block in self.blocks]
        scores = torch.cat([encoding[name].squeeze(-1) for name in names], -1)
        mask = torch.cat([batch.mask[name] for name in names], -1)
        offset = solve_offset(scores, mask, t / self.steps)
        x = self.prior.onehot(batch.codes)
        result = {}
        for name in names:
            masked = torch.sigmoid(encoding[name] + offset[:, None, None])
            result[name] = (1 - masked) * x[name] + masked * self.prior.probs[name]
        return result
