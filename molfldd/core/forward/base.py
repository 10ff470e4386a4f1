"""The forward (noising) process: marginals q(z_t | x) of Eq. (9) and the plans between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Batch, Block, Prior, Probs
from molfldd.core.clock import Clock, Steps
from molfldd.core.coupling import Plan, maximum_coupling
from molfldd.core.forward.transitions import MaskingTransition, Transition

RAREST = 1e-6
"""A learned prior starts with at least this probability for every state."""


class ForwardProcess(nn.Module, ABC):
    """Marginals of every element at every step, with the boundaries exact by construction.

    A subclass says what happens strictly between the boundaries (``interior``); this class puts
    u_0 = onehot(x) and u_T = prior around it, so the prior term of the bound is exactly 0.

    Args:
        blocks: The blocks of the domain.
        prior: p(z_T); it defines the states.
        steps: Number of steps T, or several; see ``molfldd.core.clock``.

    Attributes:
        coupling: Makes the plan between two marginals; the maximum coupling of Eq. (11) unless
            it is replaced. A fixed process has that of its own Markov chain.
        orders: Whether it can do no more than to mask some elements earlier than others.
    """

    orders: ClassVar[bool] = False

    def __init__(self, blocks: Sequence[Block], prior: Prior, steps: Steps) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.clock = Clock(steps)
        self.steps = self.clock.total
        self.coupling: Callable[[Tensor, Tensor], Plan] = maximum_coupling
        if prior.learned:
            logits = {name: p.clamp(min=RAREST).log() for name, p in prior.probs.items()}
            self.prior_logits = nn.ParameterDict(logits)
        else:
            for name, probs in prior.probs.items():
                self.register_buffer(f"prior_{name}", probs.clone())
        self.learns_prior = prior.learned

    @property
    def numbers(self) -> list[nn.Parameter]:
        """Parameters beside the network that are few and scaled, such as a pace."""
        return []

    @property
    def only_masks(self) -> bool:
        """Whether an element has its own value or is masked, and is never revealed by noise."""
        return False

    @property
    def prior(self) -> Prior:
        """p(z_T), on the device of the module; differentiable if it is learned."""
        if self.learns_prior:
            probs = {name: torch.softmax(w, -1) for name, w in self.prior_logits.items()}
            return Prior(probs, learned=True)
        return Prior({b.name: self.get_buffer(f"prior_{b.name}") for b in self.blocks})

    def encode(self, batch: Batch) -> Probs:
        """What the process reads off x once for all steps; nothing for a fixed process."""
        return {}

    @abstractmethod
    def interior(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """q(z_t | x) for t in 1..T-1, (B, n, S) per block.

        Args:
            batch: The examples x.
            encoding: What ``encode`` returned for them.
            t: Step of each example, (B,) int64.
        """

    def marginal(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """u_t = q(z_t | x) of Eq. (9) for t in 0..T, exact at both ends, (B, n, S) per block."""
        x = self.prior.onehot(batch.codes)
        inner = self.interior(batch, encoding, t.clamp(max=self.steps - 1).clamp(min=1))
        start, end = (t == 0)[:, None, None], self.clock.is_last(t)[:, None, None]
        return {
            name: torch.where(start, x[name], torch.where(end, self.prior.probs[name], u))
            for name, u in inner.items()
        }

    def couple(self, u_s: Probs, u_t: Probs, t: Tensor) -> dict[str, Plan]:
        """The plan of each block from u_t to u_s, by ``self.coupling``."""
        return {name: self.coupling(u_s[name], u) for name, u in u_t.items()}

    def whole_transition(self, batch: Batch, encoding: Probs, t: Tensor) -> Transition:
        """``transition`` with distributions over all states."""
        u_s = self.marginal(batch, encoding, self.clock.before(t))
        u_t = self.marginal(batch, encoding, t)
        return Transition(u_s, u_t, self.couple(u_s, u_t, t))

    def transition(
        self, batch: Batch, encoding: Probs, t: Tensor
    ) -> Transition | MaskingTransition:
        """Marginals at t in 1..T and at s before it, and the plan between them."""
        return self.whole_transition(batch, encoding, t)


def interpolate(x: Probs, prior: Prior, kept: Tensor) -> dict[str, Tensor]:
    """kept * onehot(x) + (1 - kept) * prior, with ``kept`` (B,); (B, n, S) per block."""
    weight = kept[:, None, None]
    return {name: weight * v + (1 - weight) * prior.probs[name] for name, v in x.items()}


def at_step(features: Tensor, t: Tensor, steps: int) -> Tensor:
    """The slice of per-step features at t in 1..T-1.

    Args:
        features: All interior steps side by side, (B, n, (T - 1) * C).
        t: Step of each example, (B,) int64.
        steps: T.

    Returns:
        (B, n, C).
    """
    interior = max(steps - 1, 1)
    per_step = features.reshape(*features.shape[:-1], interior, features.shape[-1] // interior)
    return per_step[torch.arange(len(t), device=t.device), :, t - 1]
