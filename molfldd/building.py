"""The processes that a recipe names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from molfldd.config import Config, ProcessConfig
from molfldd.core.blocks import (
    Block,
    Prior,
    absorbing_prior,
    marginal_prior,
    uniform_prior,
)
from molfldd.core.coupling import MonotoneCoupling, Plan, independent_coupling, maximum_coupling
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import (
    FixedForward,
    ForwardProcess,
    FreeForward,
    MaskingForward,
    MixedForward,
    PinnedForward,
    UnpacedMaskingForward,
)
from molfldd.core.network import NetworkFactory
from molfldd.core.reverse import (
    AutoregressiveReverse,
    DirectReverse,
    JumpReverse,
    ReverseProcess,
    UnmaskingReverse,
)
from molfldd.domain import Data, domain_class

_PRIORS: dict[str, Callable[[Data], Prior]] = {
    "uniform": lambda data: uniform_prior(data.domain.blocks),
    "marginal": lambda data: marginal_prior(data.train.frequencies()),
    "learned": lambda data: Prior(data.train.frequencies(), learned=True),
    "absorbing": lambda data: absorbing_prior(data.domain.blocks),
}

_FORWARD: dict[
    str, Callable[[ProcessConfig, Sequence[Block], Prior, NetworkFactory], ForwardProcess]
] = {
    "fixed": lambda config, blocks, prior, network: FixedForward(blocks, prior, config.steps),
    "free": lambda config, blocks, prior, network: FreeForward(
        blocks, prior, config.steps, network
    ),
    "pinned": lambda config, blocks, prior, network: PinnedForward(
        blocks, prior, config.steps, network, config.pin_power
    ),
    "masking": lambda config, blocks, prior, network: MaskingForward(
        blocks, prior, config.steps, network, config.even_pace
    ),
    "unpaced": lambda config, blocks, prior, network: UnpacedMaskingForward(
        blocks, prior, config.steps, network, config.even_pace
    ),
    "mixed": lambda config, blocks, prior, network: MixedForward(
        blocks, prior, config.steps, network, config.even_pace, config.change
    ),
}

_COUPLING: dict[str, Callable[[torch.Tensor, torch.Tensor], Plan]] = {
    "maximum": maximum_coupling,
    "monotone": MonotoneCoupling,
    "independent": independent_coupling,
}

_REVERSE: dict[str, type[ReverseProcess]] = {
    "direct": DirectReverse,
    "jump": JumpReverse,
    "unmasking": UnmaskingReverse,
    "autoregressive": AutoregressiveReverse,
}


def load_data(config: Config[Any, Any]) -> Data:
    """The examples of a recipe, said as its network is to see them; raises as ``Domain.load``."""
    data: Data = domain_class(config.domain).load(config.data)
    augment = data.domain.augmentation(config.network)
    if augment is None:
        return data
    train, test = (replace(part, augment=augment) for part in (data.train, data.test))
    return replace(data, train=train, test=test)


def build_prior(config: ProcessConfig, data: Data) -> Prior:
    """p(z_T) of a recipe."""
    return _PRIORS[config.prior](data)


def build_forward(
    config: ProcessConfig, blocks: Sequence[Block], prior: Prior, network: NetworkFactory
) -> ForwardProcess:
    """q_phi of a recipe."""
    process = _FORWARD[config.forward](config, blocks, prior, network)
    process.coupling = _COUPLING[config.coupling]
    return process


def build_reverse(
    config: ProcessConfig, blocks: Sequence[Block], prior: Prior, network: NetworkFactory
) -> ReverseProcess:
    """p_theta of a recipe."""
    return _REVERSE[config.reverse](blocks, prior, config.steps, network, config.components)


def build_diffusion(config: Config[Any, Any], data: Data) -> Diffusion:
    """Both processes of a recipe, with fresh networks."""
    network = partial(data.domain.network, config.network)
    prior = build_prior(config.process, data)
    blocks = data.domain.blocks
    return Diffusion(
        build_forward(config.process, blocks, prior, network),
        build_reverse(config.process, blocks, prior, network),
    )
