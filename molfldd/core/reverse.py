"""The reverse (generative) process: factorized over elements, Eq. (7), and what goes beyond it.

A network sees the whole of z_t, and every element of z_s then has a distribution of its own; or a
step is a mixture of such laws, or the elements follow one another. The
"predict x, then apply q(z_s | z_t, x)" form is not used: with a learned forward process
q(x | z_t) need not factorize (Section 3.4).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from molfldd.core.autoregressive import WIDTH, AutoregressiveLaw, Head
from molfldd.core.blocks import Block, Masks, Prior, Probs, mean
from molfldd.core.clock import Clock, Steps
from molfldd.core.law import NEVER, Law
from molfldd.core.mixture import CODE, MixtureLaw, Readings
from molfldd.core.network import NetworkFactory, apply
from molfldd.core.unmasking import log_probs_from_mask


def log_or_never(p: Tensor) -> Tensor:
    """log p, and ``NEVER`` (with zero gradient) where p is not positive; any shape."""
    positive = p > 0
    return torch.where(positive, torch.where(positive, p, 1.0).log(), NEVER)


@dataclass(frozen=True)
class Features:
    """What the network says of a batch, before it is read by the components.

    Attributes:
        shared: What the components start from, (B, n, C) per block.
        codes: What they differ by, (B, n, CODE) per block; none where there is only one.
        log_weights: log w_theta, (K, B) nats.
    """

    shared: dict[str, Tensor]
    codes: dict[str, Tensor]
    log_weights: Tensor


class ReverseProcess(nn.Module, ABC):
    """p_theta(z_s | z_t).

    Args:
        blocks: The blocks of the domain.
        prior: p(z_T); it defines the states.
        steps: Number of steps T, or several; see ``molfldd.core.clock``.
        network: Builds the network.
        components: K, of a mixture.
    """

    more_channels: ClassVar[int] = 0
    """Features of an element that the parameterization asks for beyond one for each state."""

    told: ClassVar[int] = 0
    """How many of them, the last ones, say nothing by themselves but are told a head."""

    only_unmasks: ClassVar[bool] = False
    """Whether it only reveals masked elements, and changes no other."""

    at_once: ClassVar[bool] = True
    """Whether all elements of a step are drawn at once, in one of the ways of ``core.joint``."""

    def __init__(
        self,
        blocks: Sequence[Block],
        prior: Prior,
        steps: Steps,
        network: NetworkFactory,
        components: int = 1,
    ) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.clock = Clock(steps)
        self.steps = self.clock.total
        self.components = components
        self.states = {block.name: prior.states(block.name) for block in blocks}
        self.channels = {name: s + self.more_channels for name, s in self.states.items()}
        more = CODE + components if components > 1 else 0
        self.network = network(self.states, {name: c + more for name, c in self.channels.items()})
        self.readings = nn.ModuleDict(
            {name: Readings(c, components) for name, c in self.channels.items() if components > 1}
        )
        self.set_up()

    def set_up(self) -> None:
        """What a subclass has of its own."""

    @abstractmethod
    def law(self, z: Probs, mask: Masks, t: Tensor) -> Law:
        """p_theta(z_s | z_t).

        States that data never takes have (practically) no mass at t = 1.

        Args:
            z: States as one-hot or simplex points, (B, n, S) per block.
            mask: Elements that exist, (B, n) per block.
            t: Step of each example, (B,) int64 in 1..T.
        """

    def features(self, z: Probs, mask: Masks, t: Tensor) -> Features:
        """One evaluation of the network; arguments as of ``law``."""
        shared, codes, votes = {}, {}, torch.zeros(len(t), self.components, device=t.device)
        for name, f in apply(self.network, z, mask, self.clock.reading(t)).items():
            channels = self.channels[name]
            shared[name], rest = f[..., :channels], f[..., channels:]
            if self.components > 1:
                codes[name] = rest[..., :CODE]
                votes = votes + mean(rest[..., CODE:], mask[name])
        return Features(shared, codes, torch.log_softmax(votes, -1).T)

    def read(
        self, features: Features, name: str, chosen: Tensor | tuple[Tensor, ...] | None = None
    ) -> Tensor:
        """Each component's features of a block, (K, B, n, C); of chosen elements (K, N, C).

        Args:
            features: What the network says.
            name: Of the block.
            chosen: Elements, (B, n) bool, N of them, or where they are, (N,) int64 twice; all by
                default.
        """
        where = ... if chosen is None else chosen
        shared = features.shared[name][where]
        if self.components == 1:
            return shared[None]
        each: Tensor = self.readings[name](shared, features.codes[name][where])
        return each


class FactorizedReverse(ReverseProcess):
    """prod_i Cat(z_s^i; v_theta^i(z_t, t)), or a mixture of K such laws."""

    @abstractmethod
    def log_probs_of_block(self, block: Block, features: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """log v_theta of one block from the features (K, B, n, C) of each component.

        Returns:
            (K, B, n, S), from z (B, n, S) and t (B,).
        """

    def law(self, z: Probs, mask: Masks, t: Tensor) -> MixtureLaw:
        """p_theta(z_s | z_t); arguments as of the base class."""
        features = self.features(z, mask, t)
        log_probs = {
            block.name: self.log_probs_of_block(
                block, self.read(features, block.name), z[block.name], t
            )
            for block in self.blocks
        }
        return MixtureLaw(features.log_weights, log_probs)


class DirectReverse(FactorizedReverse):
    """v = softmax(f_theta(z_t, t) + w_t onehot(z_t)): a softmax with a learned skip per step."""

    def set_up(self) -> None:
        """A number w_t for each step and block."""
        self.skip = nn.ParameterDict({b.name: torch.zeros(self.steps) for b in self.blocks})

    def log_probs_of_block(self, block: Block, features: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """See the class."""
        logits = features + self.skip[block.name][t - 1][:, None, None] * z
        beyond_data = torch.arange(logits.shape[-1], device=z.device) >= block.categories
        logits = logits.masked_fill((self.clock.index(t) == 1)[:, None, None] & beyond_data, NEVER)
        return torch.log_softmax(logits, -1)


class JumpReverse(FactorizedReverse):
    """v = keep z + (1 - keep) softmax(f_theta), keep = sigmoid(g_theta + w_t).

    The form of the forward posterior (see ``molfldd.core.coupling``): an element stays, or jumps
    to a target that does not depend on where it was. The mask never stays at t = 1.
    """

    more_channels = 1

    def set_up(self) -> None:
        """A number w_t for each step and block."""
        self.keep = nn.ParameterDict({b.name: torch.zeros(self.steps) for b in self.blocks})

    def log_probs_of_block(self, block: Block, features: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """See the class."""
        values, gate = features[..., :-1], features[..., -1:]
        gate = gate + self.keep[block.name][t - 1][:, None, None]
        beyond_data = torch.arange(values.shape[-1], device=z.device) >= block.categories
        never = (self.clock.index(t) == 1)[:, None, None] & beyond_data
        stays = z.masked_fill(never, 0.0)
        mass = stays.sum(-1, keepdim=True)
        jump = torch.logaddexp(
            log_or_never(1 - mass), log_or_never(mass) + nn.functional.logsigmoid(-gate)
        )
        target = torch.log_softmax(values.masked_fill(never, NEVER), -1)
        return torch.logaddexp(log_or_never(stays) + nn.functional.logsigmoid(gate), jump + target)


def check_mask(blocks: Sequence[Block], states: Mapping[str, int]) -> None:
    """Raises ``ValueError`` unless every block has a state beyond its categories."""
    if any(states[block.name] != block.categories + 1 for block in blocks):
        raise ValueError("unmasking needs an absorbing prior")


class UnmaskingReverse(FactorizedReverse):
    """For an absorbing prior: masked elements are unmasked or not, all others stay.

    A masked element is revealed with probability sigmoid(g_theta - log s), which is 1/t (the
    pace of uniform masking) for g = 0 and exactly 1 at t = 1, and then takes a value from
    softmax(f_theta). For a simplex point the outcomes are mixed by its components.

    Raises:
        ValueError: if the prior has no mask state.
    """

    only_unmasks = True

    def set_up(self) -> None:
        """Look for the mask."""
        check_mask(self.blocks, self.states)

    def log_probs_of_block(self, block: Block, features: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """See the class."""
        from_mask = log_probs_from_mask(features, self.clock.index(t)[:, None, None])
        log_z = log_or_never(z)
        stay = torch.cat([log_z[..., :-1], torch.full_like(log_z[..., -1:], NEVER)], -1)
        return torch.logaddexp(log_z[..., -1:] + from_mask, stay)


class AutoregressiveReverse(ReverseProcess):
    """``UnmaskingReverse`` with one element after another; see ``molfldd.core.autoregressive``.

    Raises:
        ValueError: if the prior has no mask state, or several components are asked for.
    """

    more_channels = WIDTH
    told = WIDTH
    only_unmasks = True
    at_once = False

    def set_up(self) -> None:
        """The head."""
        check_mask(self.blocks, self.states)
        if self.components > 1:
            raise ValueError("an autoregressive step is no mixture")
        self.head = Head(sum(self.states.values()))

    def law(self, z: Probs, mask: Masks, t: Tensor) -> AutoregressiveLaw:
        """p_theta(z_s | z_t) at one-hot states; arguments as of the base class."""
        features, names = self.features(z, mask, t).shared, [block.name for block in self.blocks]
        own = {name: features[name][..., : self.states[name]] for name in names}
        told = {name: features[name][..., self.states[name] :] for name in names}
        states = {name: z[name].argmax(-1) for name in names}
        hidden = {b.name: mask[b.name] & (states[b.name] == b.categories) for b in self.blocks}
        return AutoregressiveLaw(self.head, states, hidden, own, told, self.clock.index(t))
