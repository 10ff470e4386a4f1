r"""Learned masking (Section 4.3) with a pinned or learned pace (the masking schedule).

The network gives every element one score; at step t the element is masked with probability
sigmoid(score + b_t), and b_t is solved for each example so that the mean over its elements is
exactly the pace m_t. With m_t = t/T the process learns *which* elements are masked together and
in what order, never *how many*. The pace can be learned too, one number per step for all
examples; since every step keeps a given share of 1/T, no step can collapse.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Batch, Block, Prior, Probs, mean
from molfldd.core.clock import Steps
from molfldd.core.coupling import maximum_coupling
from molfldd.core.forward.base import ForwardProcess, at_step
from molfldd.core.forward.transitions import MaskingTransition, Transition, two_points
from molfldd.core.network import NetworkFactory, apply

NUMBER_RATE = 10.0
"""Scale of the blocks' scores and of the logits of the pace: adaptive optimizers move every
parameter by about their learning rate, and a single number has to move as far as what a whole
layer of the network adds up to."""


ALL_BUT = 1 - 1e-6
"""The largest mean mask probability of an interior step; the offset for 1 is infinite."""


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
    """u_t = (1 - p_t) onehot(x) + p_t mask, p_t = sigmoid(score(x) + b_t), mean of p_t = m_t.

    The score of an element is that of its block, a number, plus what the network says of the
    element, centred within the block. Without centring, the network spends itself on the
    difference between blocks: all its features turn to one direction, and the order within a
    block is never learned.

    Args:
        blocks: The blocks of the domain.
        prior: An absorbing prior (all mass on the last state, which the data never takes).
        steps: Number of steps T.
        network: Builds the network; it is asked for one channel per block.
        even: The pace m_t - m_{t-1} is at least even / T; at 1 it is not learned, m_t = t/T.

    Raises:
        ValueError: if the prior has no mask state, or ``even`` is not in (0, 1].
    """

    orders = True

    def __init__(
        self,
        blocks: Sequence[Block],
        prior: Prior,
        steps: Steps,
        network: NetworkFactory,
        even: float = 1.0,
    ) -> None:
        super().__init__(blocks, prior, steps)
        if not 0 < even <= 1:
            raise ValueError(f"the even share of the pace must lie in (0, 1], got {even}")
        beyond = all(prior.states(block.name) == block.categories + 1 for block in blocks)
        if not (beyond and prior.absorbing):
            raise ValueError("learned masking needs an absorbing prior")
        states = {block.name: prior.states(block.name) for block in blocks}
        self.network = network(states, self.channels())
        self.even = even
        self.pace_logits = nn.Parameter(torch.zeros(self.steps))
        self.block_scores = nn.ParameterDict({name: torch.zeros(()) for name in states})

    @property
    def numbers(self) -> list[nn.Parameter]:
        """The pace, and the scores of the blocks."""
        return [self.pace_logits, *self.block_scores.values()]

    @property
    def only_masks(self) -> bool:
        """With the maximum coupling."""
        return self.coupling is maximum_coupling

    def channels(self) -> dict[str, int]:
        """What the network is asked for, per block."""
        return {block.name: 1 for block in self.blocks}

    def pace(self) -> Tensor:
        """The mean mask probability m_t of every step t = 1..T, (T,); the last of a walk is 1."""
        walks = []
        for logits in torch.split(self.pace_logits, list(self.clock.walks)):
            learned = torch.softmax(NUMBER_RATE * logits, 0)
            walks.append((self.even / len(logits) + (1 - self.even) * learned).cumsum(0))
        return torch.cat(walks)

    def encode(self, batch: Batch) -> Probs:
        """One score per element, (B, n, 1) per block; higher means masked earlier."""
        time = torch.zeros_like(batch.sizes, dtype=torch.float)
        raw = apply(self.network, self.prior.onehot(batch.codes), batch.mask, time)
        return {
            name: torch.cat([self._score(name, f, batch.mask[name]), f[..., 1:]], -1)
            for name, f in raw.items()
        }

    def _score(self, name: str, features: Tensor, mask: Tensor) -> Tensor:
        own = features[..., :1]
        score: Tensor = NUMBER_RATE * self.block_scores[name] + own - mean(own, mask)[:, None]
        return score

    def masked(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """p_t, the probability of each element to be masked at t in 1..T-1, (B, n) per block."""
        names = [block.name for block in self.blocks]
        scores = torch.cat([encoding[name][..., 0] for name in names], -1)
        mask = torch.cat([batch.mask[name] for name in names], -1)
        pace = self.pace()[t - 1].clamp(max=ALL_BUT)
        offset = self._offset(scores, mask, pace)[:, None]
        return {name: torch.sigmoid(encoding[name][..., 0] + offset) for name in names}

    def _offset(self, scores: Tensor, mask: Tensor, pace: Tensor) -> Tensor:
        """b_t, (B,), from scores and mask (B, D) of all elements and m_t (B,)."""
        return solve_offset(scores, mask, pace)

    def transition(
        self, batch: Batch, encoding: Probs, t: Tensor
    ) -> Transition | MaskingTransition:
        """Marginals at t in 1..T and at s before it, and the plan between them."""
        if not self.only_masks:
            return self.whole_transition(batch, encoding, t)
        masked_s, masked_t = (
            self._masked(batch, encoding, step) for step in (self.clock.before(t), t)
        )
        return MaskingTransition(batch.codes, masked_s, masked_t, self.prior)

    def _masked(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """``masked`` for t in 0..T, exact at both ends."""
        inner = self.masked(batch, encoding, t.clamp(max=self.steps - 1).clamp(min=1))
        start, end = (t == 0)[:, None], self.clock.is_last(t)[:, None]
        return {
            name: torch.where(start, 0.0, torch.where(end, 1.0, p)) for name, p in inner.items()
        }

    def interior(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """Two-point marginals on the data value and the mask; see the class."""
        return two_points(batch.codes, self.masked(batch, encoding, t), self.prior)


class UnpacedMaskingForward(MaskingForward):
    """u_t = (1 - p_t) onehot(x) + p_t mask, p_t = sigmoid(score(x) + logit(m_t)).

    How many elements are masked at t depends on the example: nothing holds the mean of p_t at the
    pace m_t, which is no more than where it starts, and scores are not centred. Arguments as of
    ``MaskingForward``.
    """

    def _offset(self, scores: Tensor, mask: Tensor, pace: Tensor) -> Tensor:
        return torch.logit(pace)

    def _score(self, name: str, features: Tensor, mask: Tensor) -> Tensor:
        score: Tensor = NUMBER_RATE * self.block_scores[name] + features[..., :1]
        return score


class MixedForward(MaskingForward):
    """u_t = p_t mask + (1 - p_t) [(1 - w_t) onehot(x) + w_t softmax(f_phi(x)_t)], w_t = change t/T.

    Learned masking, and what is not masked may have changed its value: the general marginals of
    Eq. (9) on top of a paced masking rate, so that no step can collapse.

    Args:
        change: Largest share of what is not masked that may have changed, in [0, 1].
    """

    orders = False

    def __init__(
        self,
        blocks: Sequence[Block],
        prior: Prior,
        steps: Steps,
        network: NetworkFactory,
        even: float = 1.0,
        change: float = 0.5,
    ) -> None:
        super().__init__(blocks, prior, steps, network, even)
        if not 0 <= change <= 1:
            raise ValueError(f"the share that may change must lie in [0, 1], got {change}")
        self.change = change

    @property
    def only_masks(self) -> bool:
        """Never."""
        return False

    def channels(self) -> dict[str, int]:
        """A score, and the logits of every interior step over the data's categories."""
        interior = max(self.steps - 1, 1)
        return {block.name: 1 + interior * block.categories for block in self.blocks}

    def interior(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """See the class."""
        x = self.prior.onehot(batch.codes)
        w = (self.change * self.clock.fraction(t))[:, None, None]
        result = {}
        for name, flat in self.masked(batch, encoding, t).items():
            p = flat[..., None]
            values = torch.softmax(at_step(encoding[name][..., 1:], t, self.steps), -1)
            values = nn.functional.pad(values, (0, 1))
            result[name] = (1 - p) * ((1 - w) * x[name] + w * values) + p * self.prior.probs[name]
        return result
