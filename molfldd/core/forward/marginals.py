"""Learned marginals over all states: free, and pinned to a mean path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from molfldd.core.blocks import Batch, Block, Prior, Probs
from molfldd.core.clock import Steps
from molfldd.core.forward.base import ForwardProcess, at_step, interpolate
from molfldd.core.network import NetworkFactory, apply


class LearnedMarginals(ForwardProcess):
    """One pass of a network over x gives features of all T - 1 interior marginals.

    Args:
        blocks: The blocks of the domain.
        prior: p(z_T).
        steps: Number of steps T.
        network: Builds the network; it is asked for (T - 1) * S channels per block.
    """

    def __init__(
        self, blocks: Sequence[Block], prior: Prior, steps: Steps, network: NetworkFactory
    ) -> None:
        super().__init__(blocks, prior, steps)
        states = {block.name: prior.states(block.name) for block in blocks}
        interior = max(self.steps - 1, 1)
        self.network = network(states, {name: interior * s for name, s in states.items()})

    def encode(self, batch: Batch) -> Probs:
        """Features of every interior step, (B, n, (T - 1) * S) per block."""
        time = torch.zeros_like(batch.sizes, dtype=torch.float)
        return apply(self.network, self.prior.onehot(batch.codes), batch.mask, time)


class FreeForward(LearnedMarginals):
    r"""u_t = softmax(log base_t(x) + f_phi(x)_t), base_t = (1 - t/T) onehot(x) + (t/T) prior.

    Training begins as conventional diffusion, and any distribution over the support of base_t
    can be reached. It may leave steps unused (watch the KL by step).
    """

    def interior(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """Base process tilted by the network; see the class."""
        base = interpolate(self.prior.onehot(batch.codes), self.prior, 1 - self.clock.fraction(t))
        return {
            name: torch.softmax(
                b.log().clamp(min=-1e9) + at_step(encoding[name], t, self.steps), -1
            )
            for name, b in base.items()
        }


class PinnedForward(LearnedMarginals):
    """u_t = a_t onehot(x) + b_t prior + (1 - a_t - b_t) softmax(f_phi(x)_t).

    With a_t = (1 - t/T)^power and b_t = (t/T)^power, so that no step can collapse to a state
    that is the same for all x, nor to x itself.

    Args:
        power: How loose the pin is; 1 leaves nothing to learn, 2 half of the mass at mid-time.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        prior: Prior,
        steps: Steps,
        network: NetworkFactory,
        power: float = 2.0,
    ) -> None:
        super().__init__(blocks, prior, steps, network)
        if power < 1:
            raise ValueError(f"the pin's power must be at least 1, got {power}")
        self.power = power

    def interior(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """Mixture of data, prior and network; see the class."""
        a = ((1 - self.clock.fraction(t)) ** self.power)[:, None, None]
        b = (self.clock.fraction(t) ** self.power)[:, None, None]
        rest = (1 - a - b).clamp(min=0.0)
        learned = {
            name: torch.softmax(at_step(f, t, self.steps), -1) for name, f in encoding.items()
        }
        return {
            name: a * x + b * self.prior.probs[name] + rest * learned[name]
            for name, x in self.prior.onehot(batch.codes).items()
        }
