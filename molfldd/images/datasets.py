"""Data sets of black-and-white images: where they come from and how grey becomes black or white."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from molfldd.download import Download, fetch
from molfldd.errors import MolflddError, UsageError
from molfldd.images.idx import read_idx

MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""Public mirrors of the four files of MNIST."""

MNIST_FILES = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
"""SHA-256 of the files, packed as they are distributed."""

_IDX_MAXIMUM = 255
_DIGITS_MAXIMUM = 16


@dataclass(frozen=True)
class ImageData:
    """Which images to train on, and how they become black and white.

    Attributes:
        name: "digits" (8 x 8, with scikit-learn, a tenth held out) or "mnist" (28 x 28, with
            its own test images).
        folder: For "mnist", a folder with the four IDX files, each plain or with ``.gz``; any
            images in files of these names will do. None: download MNIST, once.
        binarization: "threshold": a pixel is white from half of the largest value on.
            "stochastic": it is white with the probability value / largest value, drawn once,
            when the images are loaded, so that every epoch sees the same black-and-white images.
        seed: Names the draw of "stochastic".
    """

    name: str = "digits"
    folder: str | None = None
    binarization: Literal["threshold", "stochastic"] = "threshold"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folder is not None and self.name == "digits":
            raise ValueError("folder is for mnist; digits come with scikit-learn")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images side by side.

    Attributes:
        pixels: Values, (N, H, W) uint8; 0 (black) or 1 (white) once binarized.
        labels: Class of each image, (N,) uint8.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or not self.pixels.size:
            raise MolflddError(
                f"there are {len(self.pixels):,} images and {len(self.labels):,} labels; there "
                "must be as many of both, and at least one"
            )

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A data set, divided.

    Attributes:
        train: Training images.
        test: Held-out images of the same height and width.
    """

    train: LabelledImages
    test: LabelledImages

    def __post_init__(self) -> None:
        if self.train.pixels.shape[1:] != self.test.pixels.shape[1:]:
            raise MolflddError(
                f"training images have the shape {self.train.pixels.shape[1:]} and held-out ones "
                f"{self.test.pixels.shape[1:]}; they must be the same"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every image."""
        _, height, width = self.train.pixels.shape
        return height, width

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all images and labels with their order and division."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            for array in (part.pixels, part.labels):
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def binarize(
    grey: NDArray[np.uint8], maximum: int, config: ImageData, stream: int = 0
) -> NDArray[np.uint8]:
    """Black (0) and white (1) instead of grey; see ``ImageData`` for both ways.

    Args:
        grey: Values in 0..maximum, of any shape.
        maximum: The value of white.
        config: The way, and its seed.
        stream: Which of the draws that belong to the seed.

    Returns:
        An array of the same shape.
    """
    if config.binarization == "threshold":
        return (2 * grey.astype(np.int64) >= maximum).astype(np.uint8)
    uniform = np.random.default_rng((config.seed, stream)).random(grey.shape, np.float32)
    return (uniform * maximum < grey).astype(np.uint8)


def fetch_mnist(
    addresses: Sequence[str] = MNIST_URLS, files: Mapping[str, str] = MNIST_FILES
) -> Path:
    """The folder with the four files of MNIST, downloaded into the cache if they are not there.

    Args:
        addresses: Where they lie, the preferred folder first; each ends in "/".
        files: SHA-256 (hex) of each.

    Raises:
        MolflddError: if one cannot be downloaded or has another checksum (it is not kept then).
    """
    otherwise = "or name a folder with the files of MNIST: --set data.folder=FOLDER"
    paths = [
        fetch(Download(name, digest, tuple(f"{base}{name}" for base in addresses), otherwise))
        for name, digest in files.items()
    ]
    return paths[0].parent


def read_folder(folder: Path) -> ImageDataset:
    """Grey images of a folder with four IDX files named as those of MNIST.

    Raises:
        UsageError: if the folder or one of the files is not there.
        MolflddError: if a file is damaged, or if images and labels do not fit each other.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} with the files of MNIST")
    parts = (
        LabelledImages(
            read_idx(_find(folder, f"{part}-images-idx3-ubyte"), 3),
            read_idx(_find(folder, f"{part}-labels-idx1-ubyte"), 1),
        )
        for part in ("train", "t10k")
    )
    return ImageDataset(*parts)


def _find(folder: Path, name: str) -> Path:
    """The plain or the packed file of a name."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UsageError(f"the folder {folder} has neither {name} nor {name}.gz")


def _load_mnist(config: ImageData) -> ImageDataset:
    folder = fetch_mnist() if config.folder is None else Path(config.folder)
    return _binarized(read_folder(folder), _IDX_MAXIMUM, config)


def _load_digits(config: ImageData) -> ImageDataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MolflddError(
            'digits needs the package scikit-learn: pip install "molfldd[images]"'
        ) from error
    content = load_digits()
    grey, labels = content.images.astype(np.uint8), content.target.astype(np.uint8)
    order = np.random.RandomState(0).permutation(len(grey))
    held_out, train = np.split(order, [len(grey) // 10])
    parts = (LabelledImages(grey[rows], labels[rows]) for rows in (train, held_out))
    return _binarized(ImageDataset(*parts), _DIGITS_MAXIMUM, config)


def _binarized(grey: ImageDataset, maximum: int, config: ImageData) -> ImageDataset:
    parts = (
        LabelledImages(binarize(part.pixels, maximum, config, stream), part.labels)
        for stream, part in enumerate((grey.train, grey.test))
    )
    return ImageDataset(*parts)


DATASETS: dict[str, Callable[[ImageData], ImageDataset]] = {
    "digits": _load_digits,
    "mnist": _load_mnist,
}
"""The data sets that can be loaded by name."""


def load_dataset(config: ImageData) -> ImageDataset:
    """The black-and-white images of a config.

    Raises:
        UsageError: for an unknown name or a missing folder or file.
        MolflddError: if a file is damaged, a download fails or a package is missing.
    """
    if config.name not in DATASETS:
        raise UsageError(f"there is no data set '{config.name}'; known are: {', '.join(DATASETS)}")
    return DATASETS[config.name](config)
