"""Beginning a training with the networks of a checkpoint instead of random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from molfldd.checkpoint import load_state, read_checkpoint
from molfldd.config import Config
from molfldd.core.clock import Clock
from molfldd.core.diffusion import Diffusion
from molfldd.domain import Domain
from molfldd.errors import MolflddError
from molfldd.model import load_model
from molfldd.nn.layers import ResidualLayer

OF_STEPS = ("pace_logits", "skip", "keep")
"""Parameters of a process of which there is one for each step."""


def warm_start(path: Path, diffusion: Diffusion, config: Config[Any, Any], domain: Domain) -> bool:
    """Load the networks of a checkpoint into both processes of a training.

    The reverse network is always taken over, and may get more components, or an autoregressive
    head, or leave its head behind, or serve another prior or parameterization, for which it has yet
    to learn what differs; the forward process is taken over if it is of the same kind. Both may get
    more layers and parts, which add nothing at first; only the embeddings of identities begin at
    random, and small. A domain may take over what was learned from other data, see
    ``Domain.carried_over``. For another number of steps both go without what there is of each step,
    such as the pace; a forward process that is all of that kind, since it has marginals of its own
    for each step, begins anew.

    Args:
        path: The checkpoint.
        diffusion: Both processes.
        config: The recipe they were built by.
        domain: Its domain.

    Returns:
        Whether the forward process was taken over.

    Raises:
        MolflddError: if the checkpoint holds other categories, another network or more components.
    """
    _, tree = read_checkpoint(path)
    model = load_model(path)
    its = model.config
    reverse = domain.carried_over(tree["reverse"], model.domain)
    reason = "its data have other categories or sizes" if reverse is None else obstacle(config, its)
    if reverse is None or reason is not None:
        raise MolflddError(f"{path} is no start for this training: {reason}")
    same_steps = Clock(its.process.steps).walks == diffusion.clock.walks
    if not same_steps:
        reverse = without_steps(reverse)
    load_state(diffusion.reverse, fitting(reverse, diffusion.reverse), path)
    kinds = [(p.forward, p.prior) for p in (its.process, config.process)]
    forward = diffusion.forward_process
    # else it speaks of categories, and of each step
    meaningful = forward.orders or (domain.like(model.domain) and same_steps)
    if "forward" not in tree or kinds[0] != kinds[1] or not meaningful:
        return False
    learned = domain.carried_over(tree["forward"], model.domain) or {}
    if not same_steps:
        learned = without_steps(learned)
    load_state(forward, fitting(learned, forward), path)
    return True


def without_steps(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a process has learned, but for the parameters that belong to single steps."""
    return {name: value for name, value in state.items() if name.split(".")[0] not in OF_STEPS}


def obstacle(mine: Config[Any, Any], its: Config[Any, Any]) -> str | None:
    """Why a recipe's reverse process cannot go on from another's, if there is a reason."""
    missing = what_it_has(its.network, mine.network)
    if missing:
        changes = " ".join(f"--set network.{name}={value}" for name, value in missing.items())
        return f"its network is another one; make it the same by {changes}"
    if its.process.components > mine.process.components:
        return f"its reverse process has {its.process.components} components"
    return None


def what_it_has(its: Any, mine: Any) -> dict[str, Any]:
    """What a network's config says that another's lacks, which may have more layers and parts.

    Of a part there is none where the config says 0 or "none".
    """
    pairs = {
        field.name: (getattr(its, field.name), getattr(mine, field.name)) for field in fields(its)
    }
    return {
        name: there
        for name, (there, here) in pairs.items()
        if here != there and there not in (0, "none") and not (name == "layers" and here > there)
    }


def fitting(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A state for the module, with what it has in another shape as it is there.

    Channels that a layer lacks, of its inputs or outputs, come last and begin at zero, and those
    that it has too many of, for a head or a mask, are the last; layers that a network lacks are
    silenced.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, ResidualLayer) and not any(
            key.startswith(f"{name}.") for key in state
        ):
            layer.silence()
    fitted = {}
    for name, own in module.state_dict().items():
        value = state.get(name, own)
        missing = [mine - its for mine, its in zip(own.shape, value.shape, strict=False)]
        if name.startswith("network.") and own.ndim == value.ndim:
            value = nn.functional.pad(value, [n for m in reversed(missing) for n in (0, m)])
        fitted[name] = value if value.shape == own.shape else own
    return fitted
