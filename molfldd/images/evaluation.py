"""Scores of generated images, never without the protocol that they depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from molfldd.errors import UsageError
from molfldd.images.classifier import Classifier, classifier_of
from molfldd.images.datasets import ImageData, ImageDataset, load_dataset
from molfldd.images.files import MASKED, Picture
from molfldd.metrics import Statistics, frechet_distance
from molfldd.report import Report, Score, share

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


SCORES = {
    "bits_per_dim": Score("bound per pixel, its own held-out images", 4),
    "frechet": Score("Fréchet distance of features to held-out images"),
    "recognizable": share(f"of all: the classifier is more than {CONFIDENT:.0%} sure"),
}
"""The first is as the checkpoint has recorded it; None if it has not."""


def bits_per_dim(bound: float, shape: tuple[int, int]) -> float:
    """A bound in nats per image as bits per pixel."""
    return bound / (math.prod(shape) * math.log(2))


def evaluate(
    draws: Iterable[Sequence[Picture]], config: ImageData, metrics: Mapping[str, Any]
) -> Report:
    """Scores of the images of each sampling seed against the data of a config.

    Args:
        draws: One list of images (H, W) per seed, all as long.
        config: The data to compare with.
        metrics: What the checkpoint has recorded; "bound" in nats per image.

    Raises:
        UsageError: for less than two images.
        MolflddError: if the data cannot be loaded.
    """
    judge, bound = judge_of(config), metrics.get("bound")
    dataset = judge.dataset
    own = {"bits_per_dim": None if bound is None else bits_per_dim(bound, dataset.shape)}
    runs, samples = [], 0
    for images in draws:
        samples = len(images)
        runs.append({**own, **asdict(judge.scores(images))})
    protocol = Protocol(
        samples,
        len(dataset.test),
        len(dataset.train),
        judge.accuracy,
        config.name,
        config.binarization,
        dataset.fingerprint,
        min(samples, len(dataset.train)),
    )
    return Report(SCORES, tuple(runs), protocol, asdict(judge.floor(samples)))
