"""The pair of processes that are trained together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from molfldd.core.blocks import Block, Prior
from molfldd.core.clock import Clock
from molfldd.core.forward.base import ForwardProcess
from molfldd.core.reverse import ReverseProcess


class Diffusion(nn.Module):
    """A forward process q_phi and a reverse process p_theta over the same blocks and states.

    Attributes:
        forward_process: q_phi(z_t | x) and its couplings.
        reverse: p_theta(z_s | z_t).

    Raises:
        ValueError: if they do not have the same steps, or the one changes values and the other
            only unmasks.
    """

    def __init__(self, forward_process: ForwardProcess, reverse: ReverseProcess) -> None:
        super().__init__()
        if reverse.only_unmasks and not forward_process.only_masks:
            raise ValueError(
                f"a {type(reverse).__name__} cannot undo a {type(forward_process).__name__} that "
                "changes values; take a DirectReverse or a JumpReverse"
            )
        if forward_process.clock.walks != reverse.clock.walks:
            raise ValueError(
                f"the forward process has {forward_process.clock}, "
                f"the reverse process {reverse.clock}"
            )
        self.forward_process = forward_process
        self.reverse = reverse

    @property
    def blocks(self) -> Sequence[Block]:
        """The blocks of the domain."""
        return self.forward_process.blocks

    @property
    def steps(self) -> int:
        """Number of steps T, of all walks together."""
        return self.forward_process.steps

    @property
    def clock(self) -> Clock:
        """How the steps are numbered."""
        return self.forward_process.clock

    @property
    def prior(self) -> Prior:
        """p(z_T), without gradient."""
        prior = self.forward_process.prior
        return Prior({name: p.detach() for name, p in prior.probs.items()}, prior.learned)
