"""Which parameters a phase trains, by which optimizer, and what the optimizer knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators import ControlVariate, Estimator
from molfldd.core.muon import Muon
from molfldd.core.phases import Phase, TrainingOptions


def variance(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float:
    """Variance of the gradient of a group of parameters, summed, from Adam's moments."""
    fast, slow = group["betas"]
    variance = 0.0
    for state in (optimizer.state[p] for p in group["params"] if p in optimizer.state):
        steps = float(state["step"])
        mean = state["exp_avg"] / (1 - fast**steps)
        square = state["exp_avg_sq"] / (1 - slow**steps)
        variance += float((square - mean**2).sum())
    return max(0.0, variance * float((1 + fast) / (2 * fast)))


def parameter_groups(
    diffusion: Diffusion, phase: Phase, estimator: Estimator, frozen: Sequence[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """The parameters a phase trains, named, with their peak rates; freezes the others.

    Args:
        diffusion: Both processes.
        phase: The phase.
        estimator: Its estimator.
        frozen: Parameters that no phase trains.
    """
    forward, numbers = diffusion.forward_process, diffusion.forward_process.numbers
    pace = {id(p) for p in numbers}
    groups: list[tuple[str, list[nn.Parameter], float]] = [
        ("reverse", list(diffusion.reverse.parameters()), phase.lr_reverse),
        ("forward", [p for p in forward.parameters() if id(p) not in pace], phase.lr_forward),
        ("pace", numbers, phase.lr_forward),
    ]
    if isinstance(phase.estimator, ControlVariate) and isinstance(estimator, nn.Module):
        groups.append(("estimator", list(estimator.parameters()), phase.estimator.learning_rate))
    for _, parameters, rate in groups:
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
    for parameter in frozen:
        parameter.requires_grad_(False)
    if phase.only_last:
        freeze_up_to_last(diffusion.reverse.network)
    return [
        {"name": name, "params": [p for p in them if p.requires_grad], "lr": rate, "peak": rate}
        for name, them, rate in groups
        if them and rate > 0
    ]


def freeze_up_to_last(network: nn.Module) -> None:
    """Freeze all of a network but its last layers, ``readouts``."""
    network.requires_grad_(False)
    for layer in cast(Sequence[nn.Linear], network.readouts):
        layer.requires_grad_(True)


def ema(decay: float) -> Any:
    """What torch's ``AveragedModel`` needs for an exponential moving average."""
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear layers inside a network's lists of layers (``nn.ModuleList``)."""
    lists = (m for m in network.modules() if isinstance(m, nn.ModuleList))
    linear = (m for layers in lists for m in layers.modules() if isinstance(m, nn.Linear))
    return list(dict.fromkeys(cast(nn.Parameter, m.weight) for m in linear))


def continue_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over the moments of a saved state; the rates and what else was asked for stay.

    Raises:
        ValueError: if it is of other groups of parameters.
    """
    names = [group["name"] for group in state["param_groups"]]
    asked = [dict(group) for group in optimizer.param_groups]
    if names != [group["name"] for group in asked]:
        raise ValueError(f"the state trains {names}")
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, asked, strict=True):
        group.update(own)


def build_optimizers(
    groups: list[dict[str, Any]],
    diffusion: Diffusion,
    options: TrainingOptions,
    dtype: torch.dtype = torch.float32,
) -> list[torch.optim.Optimizer]:
    """AdamW for all groups; with "muon", Muon for the hidden matrices of the reverse network.

    Args:
        groups: See ``parameter_groups``.
        diffusion: Both processes.
        options: Which optimizer, and its weight decay.
        dtype: What Muon computes in.
    """
    decay = options.weight_decay
    muon = options.optimizer == "muon"
    matrices = [p for p in hidden_matrices(diffusion.reverse) if muon and p.requires_grad]
    if not matrices:
        return [adamw(groups, decay)]
    taken = {id(p) for p in matrices}
    rest = [{**g, "params": [p for p in g["params"] if id(p) not in taken]} for g in groups]
    reverse = next(group for group in groups if group["name"] == "reverse")
    return [
        adamw(rest, decay),
        Muon([{**reverse, "params": matrices}], weight_decay=decay, dtype=dtype),
    ]


def adamw(groups: list[dict[str, Any]], decay: float) -> torch.optim.Optimizer:
    """AdamW that moves all parameters at once."""
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=decay, fused=True)
