"""Calibrating a trained model: its statistics brought to those of its training data.

The mathematics is in `molfldd.core.calibration`; here a checkpoint goes in and a checkpoint comes
out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from molfldd.building import load_data
from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.core.calibration import LastLayers, moments
from molfldd.core.report import evaluate_bound
from molfldd.core.sampling import Samples
from molfldd.errors import MolflddError, UsageError
from molfldd.model import Manner, batches, load_diffusion, load_model

Batches = Callable[[Iterable[range]], Iterable[range]]
"""Hands batches of indices on, perhaps showing how many have passed."""


COUNTED = 30_000
"""Training examples whose statistics are compared with, at most."""

RARE = 0.005
"""Statistics that are not 0 for fewer of the training examples are left alone."""

PAIRED = 20
"""So many of the commonest statistics are also compared by the products of every two of them."""


@dataclass(frozen=True)
class Budget:
    """How much is sampled.

    Attributes:
        rounds: Changes of the model, each after new samples.
        num: Examples for each.
        seed: Of the first samples; the next ones go on from there.
        batch_size: Examples computed at once.
    """

    rounds: int = 1
    num: int = 30_000
    seed: int = 1_000
    batch_size: int = 500


@dataclass(frozen=True)
class Comparison:
    """Which numbers of an example are compared; called with what a domain says of B examples.

    Beside the means of numbers, those of their products: in units of the training data, about
    their mean, so that the mean of a product is a correlation, and of a square the variance.

    Attributes:
        names: Of the numbers; the first is whether an example is usable, 1 or 0.
        centre: Means over training examples of those whose products are compared, (P,).
        scale: Their standard deviations, (P,).
    """

    names: tuple[str, ...]
    centre: Tensor
    scale: Tensor

    @classmethod
    def of(
        cls, found: Sequence[Mapping[str, float] | None], judgement: str, paired: int = PAIRED
    ) -> Comparison:
        """Those that are not rarer than ``RARE`` among training examples, the commonest first."""
        having = Counter(name for one in found if one for name, value in one.items() if value)
        common = (name for name, count in having.most_common() if count >= RARE * len(found))
        names = (judgement, *common)
        numbers = table(found, names)[:, 1 : 1 + paired]
        centre = numbers.nanmean(0)
        scale = (numbers - centre).square().nanmean(0).sqrt()
        return cls(names, centre, torch.where(scale > 0, scale, 1.0))

    def __call__(self, found: Sequence[Mapping[str, float] | None]) -> Tensor:
        """The numbers of each example, and their products, (B, M); NaN where it is not usable."""
        numbers = table(found, self.names)
        count = len(self.scale)
        paired = (numbers[:, 1 : 1 + count] - self.centre) / self.scale
        i, j = torch.triu_indices(count, count)
        return torch.cat([numbers, paired[:, i] * paired[:, j]], 1)


def table(found: Sequence[Mapping[str, float] | None], names: Sequence[str]) -> Tensor:
    """Numbers of B examples by name, (B, N); the first is whether an example has any."""
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
        budget: How much is sampled.
        device: Where, as torch calls it.

    Attributes:
        judgement: The word for an example that is usable.
        comparison: What is compared.
        wanted: Its means over the training data, (M,).

    Raises:
        UsageError: if its domain has no statistics, or its last layers are too large.
        MolflddError: if the file cannot be read, or its training data are not what they were.
    """

    def __init__(self, path: Path, manner: Manner, budget: Budget, device: str = "cpu") -> None:
        self.path, self.budget = path, budget
        self.model = load_model(path).drawing(manner).to(device)
        try:
            self.layers = LastLayers(self.model.sampler.reverse)
        except ValueError as error:
            raise UsageError(f"{path} cannot be calibrated: {error}") from error
        self.data = load_data(self.model.config)
        if self.data.fingerprint != self.model.fingerprint:
            raise MolflddError(
                f"{path} was trained on other data than are there now under the name of its own "
                "(or on the same, prepared by another version of RDKit)"
            )
        found = self.training()
        self.judgement = self.model.domain.judgement or "usable"
        self.comparison = Comparison.of(found, self.judgement)
        self.wanted = self.comparison(found).nanmean(0)

    def training(self) -> list[Mapping[str, float] | None]:
        """What the domain says of training examples."""
        domain = self.model.domain
        batch = self.data.train.batch(self.data.train.some(COUNTED))
        return [domain.statistics(one) for one in domain.decode(batch.codes, batch.sizes.tolist())]

    def _drawn(self, drawn: Samples) -> Tensor:
        domain = self.model.domain
        return self.comparison([domain.statistics(one) for one in domain.samples(drawn)])

    def _batches(self) -> Iterable[range]:
        return batches(self.budget.num, self.budget.batch_size)

    def round(self, number: int, show: Batches) -> Tensor:
        """Sample, and change the model; the means of the statistics before the change, (M,)."""
        found = moments(
            self.model.sampler,
            self._drawn,
            self.wanted,
            self.budget.seed + number,
            show(self._batches()),
        )
        if not found.means[0] > 0:
            raise MolflddError(
                f"none of {self.budget.num:,} samples of {self.path} is {self.judgement}, so there "
                "is nothing to compare; train the model longer"
            )
        self.layers.move(found.change())
        return found.means

    def measure(self, show: Batches) -> tuple[Tensor, dict[str, float]]:
        """The means of the statistics as they are now, (M,), and the quality of the samples."""
        decoded: list[Any] = []
        for indices in show(self._batches()):
            decoded += self.model.draw(self.budget.seed + self.budget.rounds, indices)
        domain = self.model.domain
        found = [domain.statistics(example) for example in decoded]
        return self.comparison(found).nanmean(0), domain.quality(decoded)

    def write(self, out: Path, quality: dict[str, float]) -> None:
        """Write the calibrated checkpoint; raises ``MolflddError`` if that fails."""
        header, tree = read_checkpoint(self.path)
        reverse = self.model.sampler.reverse
        tree["reverse"] = {
            name: value.to(tree["reverse"][name]) for name, value in reverse.state_dict().items()
        }
        own = asdict(replace(self.model.manner, steps=None))
        manner = {name: value for name, value in own.items() if value is not None}
        calibrated = {**asdict(self.budget), **self.model.way}
        metrics = {**header["metrics"], **quality, "calibrated": calibrated}
        metrics |= {"bound": self._bound() if "forward" in tree else None, "other_bounds": {}}
        write_checkpoint(out, {**header, "manner": manner, "metrics": metrics}, tree)

    def _bound(self) -> object:
        """The bound of the calibrated model, as a run records it."""
        diffusion = load_diffusion(self.path)
        diffusion.reverse.load_state_dict(self.model.sampler.reverse.state_dict())
        held_out: Sequence[Any] = self.data.held_out(self.model.config.monitor.examples)
        generator = torch.Generator().manual_seed(0)
        report = evaluate_bound(diffusion, held_out, self.model.sampler.sizes, generator)
        return report.to_json()["bound"]
