"""Scores of generated images, never without the protocol that they depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import fmean, stdev
from typing import Any

import numpy as np
from rich.table import Table

from molfldd.errors import UsageError
from molfldd.images.classifier import Classifier, classifier_of
from molfldd.images.datasets import ImageData, ImageDataset, load_dataset
from molfldd.images.files import MASKED, Picture
from molfldd.metrics import Statistics, frechet_distance

CONFIDENT = 0.9
"""An image is recognizable if the classifier gives one class more than this probability."""


@dataclass(frozen=True)
class Scores:
    """How good a set of images is.

    Attributes:
        frechet: Fréchet distance to the held-out images, between features of the classifier.
        recognizable: Share of images that the classifier is sure about.
    """

    frechet: float
    recognizable: float


@dataclass(frozen=True, eq=False)
class Judge:
    """The classifier of a data set with the statistics of its held-out images.

    Attributes:
        dataset: The data set.
        classifier: Trained on its training images.
        reference: Statistics of the features of the held-out images.
        accuracy: Share of held-out images that the classifier gets right.
    """

    dataset: ImageDataset
    classifier: Classifier
    reference: Statistics
    accuracy: float

    @classmethod
    def of(cls, dataset: ImageDataset) -> Judge:
        """Trains the classifier, or takes it from the cache."""
        classifier = classifier_of(dataset)
        features, probabilities = classifier.judge(dataset.test.pixels)
        correct = probabilities.argmax(-1) == dataset.test.labels
        return cls(dataset, classifier, Statistics.of(features), float(correct.mean()))

    def scores(self, images: Sequence[Picture]) -> Scores:
        """Scores of images (H, W), 0 and 255; raises ``UsageError`` for less than two."""
        if len(images) < 2:
            raise UsageError(f"scores need at least two images, but there are {len(images)}")
        features, probabilities = self.classifier.judge(
            (np.stack(images) > MASKED).astype(np.uint8)
        )
        return Scores(
            frechet_distance(Statistics.of(features), self.reference),
            float((probabilities.max(-1) > CONFIDENT).mean()),
        )

    def floor(self, count: int) -> Scores:
        """Scores of as many training images, always the same ones: what real images get."""
        rows = np.random.default_rng(0).permutation(len(self.dataset.train))[:count]
        return self.scores(list(255 * self.dataset.train.pixels[rows]))


@lru_cache(maxsize=1)
def judge_of(config: ImageData) -> Judge:
    """The judge of a data config; the last one is kept in memory."""
    return Judge.of(load_dataset(config))


@dataclass(frozen=True)
class Protocol:
    """What the scores depend on.

    Attributes:
        samples: Number of generated images, of each sampling seed.
        reference: Number of held-out images they are compared with.
        training: Number of images the classifier was trained on.
        accuracy: Of the classifier on the held-out images.
        data: The data set.
        binarization: How grey became black and white.
        fingerprint: SHA-256 of the data set.
        floor: Number of training images that the floor is of.
    """

    samples: int
    reference: int
    training: int
    accuracy: float
    data: str
    binarization: str
    fingerprint: str
    floor: int

    def lines(self) -> list[str]:
        """The protocol in words, for below a table."""
        return [
            f"{self.samples:,} samples against {self.reference:,} held-out images of {self.data}, "
            f"binarized by {self.binarization}, sha256 {self.fingerprint}",
            f"classifier: trained on {self.training:,} images, accuracy {100 * self.accuracy:.2f} "
            "% on the held-out ones",
            f"real images: {self.floor:,} of those it was trained on",
        ]


@dataclass(frozen=True)
class ImageReport:
    """Scores of the images of one or several sampling seeds.

    Attributes:
        bits_per_dim: Bound on -log2 p(x) per pixel on held-out images, as the checkpoint has
            recorded it; None if it has not.
        mean: Means over the seeds.
        spread: Standard deviations (n - 1) over the seeds; None for a single one.
        floor: What as many training images get.
        runs: Number of seeds.
        protocol: What all this depends on.
    """

    bits_per_dim: float | None
    mean: Scores
    spread: Scores | None
    floor: Scores
    runs: int
    protocol: Protocol

    def to_json(self) -> dict[str, object]:
        """Nested mapping of numbers, strings and None, for a JSON file."""
        return asdict(self)

    def table(self) -> Table:
        """Scores, floors and what they mean, with the protocol as caption."""
        lines = [f"{self.runs} runs: mean ± standard deviation"] if self.runs > 1 else []
        table = Table(caption="\n".join([*lines, *self.protocol.lines()]), caption_justify="left")
        for heading in ("score", "value", "real images"):
            table.add_column(heading, justify="left" if heading == "score" else "right")
        table.add_column("of what")
        bound = "-" if self.bits_per_dim is None else f"{self.bits_per_dim:.4f}"
        table.add_row("bits_per_dim", bound, "-", "bound per pixel, its own held-out images")
        for name, (digits, factor, unit, meaning) in _SCORES.items():
            spread = None if self.spread is None else factor * getattr(self.spread, name)
            value = f"{factor * getattr(self.mean, name):.{digits}f}"
            tail = "" if spread is None else f" ± {spread:.{digits}f}"
            real = f"{factor * getattr(self.floor, name):.{digits}f}{unit}"
            table.add_row(name, f"{value}{tail}{unit}", real, meaning)
        return table


_SCORES = {
    "frechet": (3, 1, "", "Fréchet distance of features to held-out images"),
    "recognizable": (2, 100, " %", f"of all: the classifier is more than {CONFIDENT:.0%} sure"),
}
"""Digits, factor, unit and meaning of each score in tables."""


def bits_per_dim(bound: float, shape: tuple[int, int]) -> float:
    """A bound in nats per image as bits per pixel."""
    return bound / (math.prod(shape) * math.log(2))


def evaluate(
    draws: Iterable[Sequence[Picture]], config: ImageData, metrics: Mapping[str, Any]
) -> ImageReport:
    """Scores of the images of each sampling seed against the data of a config.

    Args:
        draws: One list of images (H, W) per seed, all as long.
        config: The data to compare with.
        metrics: What the checkpoint has recorded; "bound" in nats per image.

    Raises:
        UsageError: for less than two images.
        MolflddError: if the data cannot be loaded.
    """
    judge = judge_of(config)
    counts, scores = zip(*((len(images), judge.scores(images)) for images in draws), strict=True)
    bound = metrics.get("bound")
    dataset = judge.dataset
    return ImageReport(
        None if bound is None else bits_per_dim(bound, dataset.shape),
        _combined(fmean, scores),
        _combined(stdev, scores) if len(scores) > 1 else None,
        judge.floor(counts[0]),
        len(scores),
        Protocol(
            counts[0],
            len(dataset.test),
            len(dataset.train),
            judge.accuracy,
            config.name,
            config.binarization,
            dataset.fingerprint,
            min(counts[0], len(dataset.train)),
        ),
    )


def _combined(statistic: Any, scores: Sequence[Scores]) -> Scores:
    return Scores(
        statistic([score.frechet for score in scores]),
        statistic([score.recognizable for score in scores]),
    )
