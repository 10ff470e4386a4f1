"""Calibrating a trained model: its statistics brought to those of its training data.

The mathematics is in `molfldd.core.calibration`; here a checkpoint goes in and a checkpoint comes
out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.core.bound import evaluate_bound
from molfldd.core.calibration import LastLayers, moments
from molfldd.core.sampling import Samples
from molfldd.domain import Data, domain_class
from molfldd.errors import MolflddError, UsageError
from molfldd.model import Manner, batches, load_diffusion, load_model

Batches = Callable[[Iterable[range]], Iterable[range]]
"""Hands batches of indices on, perhaps showing how many have passed."""


RARE = 0.005
"""Statistics that are not 0 for fewer of the training examples are left alone."""


@dataclass(frozen=True)
class Plan:
    """How much is sampled.

    Attributes:
        rounds: Changes of the model, each after new samples.
        num: Examples for each, and as many training examples to compare with.
        seed: Of the first samples; the next ones go on from there.
        batch_size: Examples computed at once.
    """

    rounds: int = 1
    num: int = 30_000
    seed: int = 1_000
    batch_size: int = 500


def table(found: Sequence[Mapping[str, float] | None], names: Sequence[str]) -> Tensor:
    """Statistics of B examples, (B, M); the first is whether an example has any."""
    missing = [0.0, *[math.nan] * (len(names) - 1)]
    return torch.tensor(
        [
            missing if one is None else [1.0, *(one.get(name, 0.0) for name in names[1:])]
            for one in found
        ]
    )


class Calibration:
    """A checkpoint that is being calibrated.

    Args:
        path: The file.
        manner: How it draws, now and later.
        plan: How much is sampled.

    Attributes:
        names: Of the statistics: whether an example is usable, and what is not rarer than ``RARE``.
        wanted: Their means over the training data, (M,).

    Raises:
        UsageError: if its domain has no statistics, or its last layers are too large.
        MolflddError: if the file cannot be read, or its training data are not what they were.
    """

    def __init__(self, path: Path, manner: Manner, plan: Plan) -> None:
        self.path, self.manner, self.plan = path, manner, plan
        self.model = load_model(path).drawing(manner)
        try:
            self.layers = LastLayers(self.model.sampler.reverse)
        except ValueError as error:
            raise UsageError(f"{path} cannot be calibrated: {error}") from error
        self.data: Data = domain_class(self.model.config.domain).load(self.model.config.data)
        if self.data.fingerprint != self.model.fingerprint:
            raise MolflddError(
                f"{path} was trained on other data than are there now under the name of its own"
            )
        self.names, self.wanted = self._training()

    def _training(self) -> tuple[tuple[str, ...], Tensor]:
        """Names and means of the statistics of training examples."""
        domain = self.model.domain
        batch = self.data.train.batch(self.data.train.some(self.plan.num))
        decoded = domain.decode(batch.codes, batch.sizes.tolist())
        found = [domain.statistics(example) for example in decoded]
        having = Counter(name for one in found if one for name, value in one.items() if value)
        common = (name for name, count in having.most_common() if count >= RARE * len(found))
        names = (domain.judgement or "usable", *common)
        return names, table(found, names).nanmean(0)

    def _statistics(self, drawn: Samples) -> Tensor:
        domain = self.model.domain
        return table([domain.statistics(one) for one in domain.samples(drawn)], self.names)

    def _batches(self) -> Iterable[range]:
        return batches(self.plan.num, self.plan.batch_size)

    def round(self, number: int, show: Batches) -> Tensor:
        """Sample, and change the model; the means of the statistics before the change, (M,)."""
        found = moments(
            self.model.sampler,
            self._statistics,
            self.wanted,
            self.plan.seed + number,
            show(self._batches()),
        )
        self.layers.move(found.change())
        return found.means

    def measure(self, show: Batches) -> tuple[Tensor, dict[str, float]]:
        """The means of the statistics as they are now, (M,), and the quality of the samples."""
        decoded: list[Any] = []
        for indices in show(self._batches()):
            decoded += self.model.draw(self.plan.seed + self.plan.rounds, indices)
        domain = self.model.domain
        found = [domain.statistics(example) for example in decoded]
        return table(found, self.names).nanmean(0), domain.quality(decoded)

    def write(self, out: Path, quality: dict[str, float]) -> None:
        """Write the calibrated checkpoint; raises ``MolflddError`` if that fails."""
        header, tree = read_checkpoint(self.path)
        reverse = self.model.sampler.reverse
        tree["reverse"] = {
            name: value.to(tree["reverse"][name]) for name, value in reverse.state_dict().items()
        }
        joint = self.manner.joint or self.model.domain.joint
        calibrated = {**asdict(self.plan), "joint": joint, "steps": self.model.steps}
        metrics = {**header["metrics"], **quality, **self._bound(tree), "calibrated": calibrated}
        write_checkpoint(out, {**header, "metrics": metrics}, tree)

    def _bound(self, tree: Any) -> dict[str, float]:
        """The bound of the calibrated model, where the file has a forward process."""
        if "forward" not in tree:
            return {}
        diffusion = load_diffusion(self.path)
        diffusion.reverse.load_state_dict(self.model.sampler.reverse.state_dict())
        held_out: Sequence[Any] = self.data.held_out(self.model.config.monitor.examples)
        generator = torch.Generator().manual_seed(0)
        report = evaluate_bound(diffusion, held_out, self.model.sampler.sizes, generator)
        return {"bound": round(report.total, 4)}
