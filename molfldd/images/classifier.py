"""A small classifier of images, whose features and confidence judge generated images.

It stands where large image models would need a download. Its numbers can be compared with each
other, on the same data set, and with nothing else.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from molfldd.errors import MolflddError
from molfldd.images.datasets import ImageDataset, LabelledImages
from molfldd.storage import cache_directory, read_cache, write_cache

FEATURES = 64
"""Width of the penultimate layer."""

_ITERATIONS = 1000
_BATCH = 128
_RATE = 3e-3
_VERSION = 1
"""Part of the name of cached weights; to be raised when the network or its training changes."""


class Classifier(nn.Module):
    """Two convolutions with pooling, dropout, a layer of `FEATURES`, and the classes.

    Without dropout its features of training images differ from those of held-out ones, most of
    all for the few digits of scikit-learn, and with them the floor of the Fréchet distance.

    Args:
        shape: Height and width of the images, at least 4.
        classes: Number of classes.
    """

    def __init__(self, shape: tuple[int, int], classes: int) -> None:
        super().__init__()
        height, width = shape
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(32 * (height // 4) * (width // 4), FEATURES),
            nn.ReLU(),
        )
        self.classes = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and logits (B, classes) of images (B, H, W), 0 black and 1 white."""
        features = self.layers(images[:, None].float())
        return features, self.classes(features)

    @torch.no_grad()
    def judge(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Features (N, F) and probabilities (N, classes) of images (N, H, W), 0 and 1."""
        batches = [self(batch) for batch in torch.split(torch.from_numpy(images), 500)]
        features = torch.cat([features for features, _ in batches])
        logits = torch.cat([logits for _, logits in batches])
        return features.double().numpy(), logits.double().softmax(-1).numpy()


def fit(images: LabelledImages, seed: int = 0) -> Classifier:
    """A classifier trained on images; the same for the same seed.

    Takes about as long for all data sets of one image size: 18 seconds on one core for 28 x 28.
    """
    pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels).long()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        height, width = images.pixels.shape[1:]
        classifier = Classifier((height, width), int(labels.max()) + 1)
        optimizer = torch.optim.Adam(classifier.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _ITERATIONS)
        for _ in range(_ITERATIONS):
            rows = torch.randint(len(images), (_BATCH,), generator=generator)
            _, logits = classifier(pixels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(logits, labels[rows]))
            optimizer.step()
            schedule.step()
    return classifier.eval().requires_grad_(False)


def classifier_of(dataset: ImageDataset) -> Classifier:
    """The classifier of a data set: trained on its training images once, then from the cache.

    Raises:
        MolflddError: if the cache cannot be written.
    """
    path = cache_directory() / f"classifier-{dataset.fingerprint}-format{_VERSION}.npz"
    classifier = Classifier(dataset.shape, int(dataset.train.labels.max()) + 1)
    try:
        weights = {name: torch.from_numpy(array) for name, array in read_cache(path).items()}
        classifier.load_state_dict(weights)
    except (MolflddError, RuntimeError):
        classifier = fit(dataset.train)
        write_cache(path, {name: x.numpy() for name, x in classifier.state_dict().items()})
    return classifier.eval().requires_grad_(False)
