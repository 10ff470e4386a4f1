"""Trained models: loading and sampling them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from molfldd.building import build_forward, build_reverse
from molfldd.checkpoint import load_state, read_checkpoint
from molfldd.config import Config, parse_config
from molfldd.core.blocks import Prior, SizeDistribution
from molfldd.core.diffusion import Diffusion
from molfldd.core.law import Sharpness
from molfldd.core.sampling import Sampler
from molfldd.domain import Data, Domain, domain_class
from molfldd.errors import MolflddError, UsageError

_PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class Manner:
    """How a model draws; None where it is to be as the model's own manner has it.

    Attributes:
        joint: Name of the domain's ``joint_draws``, how the elements of a step go together.
        temperature: Of the values of elements, see ``molfldd.core.law.Sharpness``.
        steps: How many, one of the numbers it was trained for.
        min_p: Of the values of elements, see ``molfldd.core.law.Sharpness``.
        min_reveal: Of being revealed and staying masked, see ``molfldd.core.law.Sharpness``.
    """

    joint: str | None = None
    temperature: float | None = None
    steps: int | None = None
    min_p: float | None = None
    min_reveal: float | None = None

    def over(self, other: Manner) -> Manner:
        """This one, and the other where this one leaves it open."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(other, **said)


@dataclass(frozen=True)
class Model:
    """A trained generator.

    Attributes:
        config: The recipe it was trained by.
        domain: The domain with its vocabulary.
        sampler: Algorithm 2 with the trained reverse process; see ``drawing``.
        fingerprint: Hash of the training data.
        metrics: What was measured when the checkpoint was written.
        manner: How it draws.
    """

    config: Config[Any, Any]
    domain: Domain
    sampler: Sampler
    fingerprint: str
    metrics: dict[str, Any]
    manner: Manner

    @property
    def steps(self) -> int:
        """The number of steps the model samples in."""
        return self.sampler.steps

    @property
    def recorded(self) -> dict[str, Any]:
        """The metrics of the checkpoint, with the bound in the number of steps it samples in."""
        if self.steps == self.sampler.reverse.clock.walks[0]:
            return self.metrics
        return {**self.metrics, "bound": self.metrics.get("other_bounds", {}).get(str(self.steps))}

    def drawing(self, manner: Manner) -> Model:
        """The model drawing in a certain manner; as it does where that leaves something open.

        Raises:
            UsageError: if the model has no such joint draw, it was not trained for so many steps,
                or the temperature or the least probability is out of range.
        """
        if manner.joint is not None and not self.sampler.reverse.at_once:
            raise UsageError("this model draws one element after another; it takes no --joint")
        manner = manner.over(self.manner)
        joint = manner.joint or self.domain.joint
        known = self.domain.joint_draws()
        if joint not in known:
            raise UsageError(
                f"elements of {self.domain.plural} cannot be drawn '{joint}'; known are: "
                f"{', '.join(known)}"
            )
        sampler = copy(self.sampler)
        sampler.joint, sampler.sharpness = known[joint], _sharpness(manner)
        sampler.steps = self._walk(manner.steps)
        return replace(self, sampler=sampler, manner=manner)

    def _walk(self, steps: int | None) -> int:
        """So many steps, if it was trained for them; its first number for None."""
        walks = self.sampler.reverse.clock.walks
        if steps is not None and steps not in walks:
            known = ", ".join(str(walk) for walk in sorted(walks))
            raise UsageError(f"this model was not trained for {steps} steps; it has: {known}")
        return steps or walks[0]

    @property
    def joint(self) -> str:
        """The name of how it draws the elements of a step, for reports."""
        if not self.sampler.reverse.at_once:
            return "autoregressive"
        return self.manner.joint or self.domain.joint

    @property
    def way(self) -> dict[str, object]:
        """How it draws, for reports."""
        chosen = asdict(self.sampler.sharpness)
        return {"joint": self.joint, **chosen, "steps": self.steps}

    def stream(self, count: int, *, seed: int = 0, batch_size: int = 500) -> Iterator[list[Any]]:
        """``count`` decoded examples in batches, in constant memory."""
        _check_counts(count, batch_size)
        for indices in batches(count, batch_size):
            yield self.draw(seed, indices)

    def draw(self, seed: int, indices: Sequence[int]) -> list[Any]:
        """The decoded examples of a seed at the given indices, usable or not."""
        return self.domain.samples(self.sampler.sample(seed, indices))

    def draw_usable(self, seed: int, indices: Sequence[int]) -> list[Any | None]:
        """The same as they are to be printed or written; None for those that are not to be."""
        return [self.domain.usable(example) for example in self.draw(seed, indices)]

    def sample(
        self, count: int, *, steps: int | None = None, seed: int = 0, batch_size: int = 500
    ) -> list[Any]:
        """Generate examples; for molecules unsanitized RDKit molecules, valid or not.

        Args:
            count: How many.
            steps: A number of steps it was trained for; None for the one it draws in.
            seed: Same seed, same examples, whatever the batch size.
            batch_size: Examples computed at once.

        Raises:
            UsageError: for steps the model was not trained for, or numbers below 1.
        """
        drawn = self.drawing(Manner(steps=steps)).stream(count, seed=seed, batch_size=batch_size)
        return [example for batch in drawn for example in batch]

    def trajectories(
        self, count: int, *, seed: int = 0, batch_size: int = 500
    ) -> Iterator[list[list[Any]]]:
        """The states z_T, ..., z_0 of ``count`` examples in batches, as the domain shows them.

        They end in the examples of ``stream`` with the same seed. Raises ``UsageError`` if the
        domain cannot show states.
        """
        _check_counts(count, batch_size)
        for indices in batches(count, batch_size):
            drawn = self.sampler.sample(seed, indices, keep_trajectory=True)
            yield self.domain.trajectories(drawn)

    def to(self, device: str) -> Model:
        """The model on another device; changed in place."""
        self.sampler.reverse.to(device)
        return self


def _sharpness(manner: Manner) -> Sharpness:
    """Raises ``UsageError`` if a number is out of range."""
    chosen = {f.name: getattr(manner, f.name) for f in fields(Sharpness)}
    try:
        return Sharpness(**{name: value for name, value in chosen.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from error


def batches(count: int, size: int) -> list[range]:
    """The indices 0..count-1, ``size`` at a time."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _check_counts(count: int, batch_size: int) -> None:
    if count < 1 or batch_size < 1:
        raise UsageError("the numbers of samples and of samples per batch must be at least 1")


def model_header(config: Config[Any, Any], data: Data, metrics: dict[str, Any]) -> dict[str, Any]:
    """The JSON part of a checkpoint."""
    return {
        "domain": data.domain.to_json(),
        "config": config.model_dump(mode="json"),
        "sizes": SizeDistribution.of(data.train.sizes).counts.tolist(),
        "fingerprint": data.fingerprint,
        "metrics": metrics,
    }


def load_model(path: Path) -> Model:
    """The model of a checkpoint file.

    Raises:
        MolflddError: if the file is not a whole checkpoint of this or an older version.
    """
    header, tree = read_checkpoint(path)
    try:
        config = parse_config(header["config"])
        domain = domain_class(config.domain).from_json(header["domain"])
        sizes = SizeDistribution(torch.tensor(header["sizes"]))
        prior = Prior(tree["prior"], learned=config.process.prior == "learned")
        weights, fingerprint, metrics = tree["reverse"], header["fingerprint"], header["metrics"]
        manner = Manner(**header.get("manner", {}))
    except MolflddError as error:
        raise MolflddError(f"{path} does not suit this version of molfldd: {error}") from error
    except KeyError as error:
        raise MolflddError(f"{path} is no model checkpoint: it has no {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise MolflddError(f"{path} is no model checkpoint: {error}") from error
    network = partial(domain.network, config.network)
    reverse = build_reverse(config.process, domain.blocks, prior, network)
    load_state(reverse, weights, path)
    sampler = Sampler(reverse.eval(), prior, sizes)
    model = Model(config, domain, sampler, fingerprint, metrics, manner)
    return model.drawing(Manner())


def load_diffusion(path: Path) -> Diffusion:
    """Both processes of a checkpoint file; the reverse one is that of ``load_model``.

    Raises:
        MolflddError: if the file is no whole checkpoint, or holds no forward process.
    """
    model = load_model(path)
    _, tree = read_checkpoint(path)
    if "forward" not in tree:
        raise MolflddError(f"{path} holds no forward process; train the model anew to have one")
    config, reverse = model.config, model.sampler.reverse
    network = partial(model.domain.network, config.network)
    blocks, prior = model.domain.blocks, model.sampler.prior
    forward = build_forward(config.process, blocks, prior, network)
    load_state(forward, tree["forward"], path)
    return Diffusion(forward, reverse).eval()


def pretrained() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in _PRETRAINED.glob("*.safetensors"))


def variant(name: str, steps: int | None) -> str:
    """The name of the embedded model like ``name`` for so many steps; ``name`` if there is none."""
    other = f"{name}-{steps}steps"
    return other if other in pretrained() else name


def pretrained_path(name: str) -> Path:
    """The file of an embedded model's name, or the given path if it is one.

    Raises:
        UsageError: if it is neither.
    """
    if name in pretrained():
        return _PRETRAINED / f"{name}.safetensors"
    if name.endswith(".safetensors") or Path(name).is_file():
        return Path(name)
    raise UsageError(
        f"there is no model '{name}'; embedded are: {', '.join(pretrained()) or 'none'}, "
        "or give the path of a .safetensors checkpoint"
    )
