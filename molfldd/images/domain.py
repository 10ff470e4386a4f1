"""Black-and-white images as a domain: the pixels, row after row, are the only block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from molfldd.core.blocks import Block, Codes, Examples
from molfldd.core.joint import JointDraw, Smooth
from molfldd.domain import Data, Domain, Writer
from molfldd.errors import UsageError
from molfldd.images.datasets import DATASETS, ImageData, LabelledImages, load_dataset
from molfldd.images.evaluation import evaluate, judge_of
from molfldd.images.files import MASKED, TRAJECTORY_WRITERS, WRITERS, Picture, as_text
from molfldd.images.network import PIXELS, PatchTransformer, PatchTransformerConfig
from molfldd.report import Report

_GREYS = np.array([0, 255, MASKED], np.uint8)
"""How black, white and masked pixels are shown."""

SMALLEST = 4
"""Pixels of a side that the classifier needs."""

STROKE = 1 / 28
"""Within this share of an image's side pixels are drawn alike: about half a stroke's width."""


def _nearby(side: int) -> Tensor:
    """How much the noise of each pixel of a row counts for each other, (side, side)."""
    place = torch.arange(side) / side
    return torch.exp(-((place[:, None] - place) ** 2) / (2 * STROKE**2))


@dataclass(frozen=True)
class Images(Domain):
    """Images of one shape; the size of an example is its number of pixels, always the same.

    Attributes:
        shape: Height and width in pixels.
        data: Where the images come from; generated ones are measured against them.
    """

    shape: tuple[int, int]
    data: ImageData

    name = "images"
    plural = "images"
    joint = "smooth"
    place = "folder"
    sources = MappingProxyType(
        {
            "digits": "1,797 handwritten digits of 8 x 8 pixels (with scikit-learn)",
            "mnist": "70,000 handwritten digits of 28 x 28 pixels (download, or a local folder)",
        }
    )
    DataConfig = ImageData
    NetworkConfig = PatchTransformerConfig

    @classmethod
    def load(cls, config: ImageData) -> Data:
        """Read or download the images, and make them black and white."""
        dataset = load_dataset(config)
        if min(dataset.shape) < SMALLEST or min(len(dataset.train), len(dataset.test)) < 2:
            raise UsageError(
                f"the images of {config.name} are too small or too few: their sides must have "
                f"{SMALLEST} pixels, and there must be two for training and two held out"
            )
        domain = cls(dataset.shape, config)
        train, test = domain.examples(dataset.train), domain.examples(dataset.test)
        return Data(domain, train, test, dataset.fingerprint)

    def examples(self, images: LabelledImages) -> Examples:
        """Images as the core sees them."""
        codes = torch.from_numpy(images.pixels).flatten(1)
        return Examples(self.blocks, {PIXELS: codes}, torch.full((len(codes),), prod(self.shape)))

    def joint_draws(self) -> Mapping[str, Mapping[str, JointDraw]]:
        """Also "smooth": near pixels are drawn alike."""
        height, width = (_nearby(side) for side in self.shape)
        return {**super().joint_draws(), "smooth": {PIXELS: Smooth(torch.kron(height, width))}}

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The pixels, black (0) or white (1)."""
        return (Block(PIXELS, 2, Tensor.clone),)

    def network(
        self,
        config: PatchTransformerConfig,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
    ) -> nn.Module:
        """A patch transformer."""
        return PatchTransformer(config, self.shape, inputs, outputs)

    def decode(self, codes: Codes, sizes: Sequence[int]) -> list[Picture]:
        """Arrays (H, W) uint8: 0 is black, 255 white."""
        return list(_GREYS[codes[PIXELS].numpy()].reshape(-1, *self.shape))

    def states(self, codes: Codes, sizes: Sequence[int]) -> list[Picture]:
        """Arrays (H, W) uint8 with masked pixels in grey."""
        return self.decode(codes, sizes)

    def quality(self, decoded: Sequence[Picture]) -> dict[str, float]:
        """Fréchet distance, its floor and the recognizable share (``molfldd.images.evaluation``).

        The floor is what as many training images score. The first call trains the classifier
        (18 seconds for MNIST) unless it is in the cache. Nothing for less than two images.
        """
        if len(decoded) < 2:
            return {}
        judge = judge_of(self.data)
        floor = judge.floor(len(decoded)).frechet
        return {**asdict(judge.scores(decoded)), "frechet_floor": floor}

    def text(self, example: Picture) -> str:
        """The image in characters, two rows of pixels in a line."""
        return as_text(example)

    @classmethod
    def writers(cls) -> Mapping[str, Writer]:
        """See ``molfldd.images.files``."""
        return WRITERS

    @classmethod
    def trajectory_writers(cls) -> Mapping[str, Writer]:
        """See ``molfldd.images.files``."""
        return TRAJECTORY_WRITERS

    def evaluate(
        self,
        draws: Iterable[Sequence[Picture]],
        data: ImageData,
        metrics: Mapping[str, Any],
        reference: str | None,
    ) -> Report:
        """See ``molfldd.images.evaluation``; the reference names a data set or a folder of IDX."""
        return evaluate(draws, self._compared(data, reference), metrics)

    def _compared(self, own: ImageData, reference: str | None) -> ImageData:
        """The data to compare with: the model's own, or others of the same shape."""
        if reference is None:
            return own
        other = _referenced(own, reference)
        shape = load_dataset(other).shape
        if shape != self.shape:
            raise UsageError(
                f"the images of {reference} have {shape[0]} x {shape[1]} pixels, those of the "
                f"model {self.shape[0]} x {self.shape[1]}"
            )
        return other

    def like(self, other: Domain) -> bool:
        """Whether the images have the same shape."""
        return isinstance(other, Images) and other.shape == self.shape

    def to_json(self) -> dict[str, Any]:
        """Shape and data config, without the place where the files lay."""
        return {"shape": list(self.shape), "data": {**asdict(self.data), "folder": None}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The domain of a checkpoint."""
        height, width = content["shape"]
        return cls((int(height), int(width)), ImageData(**content["data"]))


def _referenced(own: ImageData, reference: str) -> ImageData:
    """The data set of a name, or of a folder, binarized as the model's own."""
    if reference in DATASETS:
        return replace(own, name=reference, folder=None)
    if Path(reference).is_dir():
        return replace(own, name="mnist", folder=reference)
    raise UsageError(
        f"there is no reference '{reference}'; known are: {', '.join(DATASETS)}, "
        "or give a folder with IDX files named as those of MNIST"
    )
