"""Images to pictures and arrays: a grid as PNG, trajectories as PNG or animated GIF, NPZ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from molfldd.domain import Writer

Picture = NDArray[np.uint8]
"""One image or state, (H, W): 0 is black, 255 white, and MASKED a masked pixel."""

MASKED = 128
"""The grey of a masked pixel."""

_FRAME = 48
"""The grey between images, darker than that of masked pixels."""
_GAP = 2
_SHOWN = 84
"""Small images are enlarged to about this many pixels."""
_STEP_MILLISECONDS, _LAST_MILLISECONDS = 500, 2500


def grid(pictures: Sequence[Picture], columns: int) -> Picture:
    """Images of one shape beside and below each other, row after row, with a frame.

    Args:
        pictures: At least one, each (H, W).
        columns: Images in a row.

    Returns:
        (rows * (H + gap) + gap, columns * (W + gap) + gap) uint8.
    """
    height, width = pictures[0].shape
    rows = ceil(len(pictures) / columns)
    shape = (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP)
    result = np.full(shape, _FRAME, np.uint8)
    for number, picture in enumerate(pictures):
        top = _GAP + number // columns * (height + _GAP)
        left = _GAP + number % columns * (width + _GAP)
        result[top : top + height, left : left + width] = picture
    return result


def square(pictures: Sequence[Picture]) -> Picture:
    """A grid about as wide as it is high."""
    return grid(pictures, ceil(sqrt(len(pictures))))


def _enlarged(picture: Picture, height: int) -> Image.Image:
    """The picture with each pixel as a square, as large as suits images of that height."""
    factor = max(1, _SHOWN // height)
    return Image.fromarray(picture.repeat(factor, 0).repeat(factor, 1))


def _write_png(path: Path, images: Iterable[Picture]) -> None:
    pictures = list(images)
    _enlarged(square(pictures), len(pictures[0])).save(path, format="PNG")


def _write_npz(path: Path, images: Iterable[Picture]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, images=np.stack(list(images)))


def _write_trajectory_png(path: Path, trajectories: Iterable[Sequence[Picture]]) -> None:
    rows = list(trajectories)
    states = [state for row in rows for state in row]
    _enlarged(grid(states, len(rows[0])), len(states[0])).save(path, format="PNG")


def _write_trajectory_gif(path: Path, trajectories: Iterable[Sequence[Picture]]) -> None:
    steps = list(zip(*trajectories, strict=True))
    first, *others = (_enlarged(square(states), len(states[0])) for states in steps)
    durations = [*[_STEP_MILLISECONDS] * len(others), _LAST_MILLISECONDS]
    first.save(path, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)


def _write_trajectory_npz(path: Path, trajectories: Iterable[Sequence[Picture]]) -> None:
    with path.open("wb") as file:
        stacked = np.stack([np.stack(list(states)) for states in trajectories])
        np.savez_compressed(file, allow_pickle=False, trajectories=stacked)


WRITERS: Mapping[str, Writer] = {".png": _write_png, ".npz": _write_npz}
"""Of images: a grid; or the array "images", (N, H, W) uint8."""

TRAJECTORY_WRITERS: Mapping[str, Writer] = {
    ".png": _write_trajectory_png,
    ".gif": _write_trajectory_gif,
    ".npz": _write_trajectory_npz,
}
"""Of states z_T, ..., z_0: a row each; a moving grid; the array "trajectories" (N, T + 1, H, W)."""


def as_text(picture: Picture) -> str:
    """An image in characters, two rows of pixels in a line, and an empty line."""
    rows = [*(picture > MASKED), *np.zeros((len(picture) % 2, picture.shape[1]), bool)]
    lines = (
        "".join(" ▀▄█"[top + 2 * bottom] for top, bottom in zip(*pair, strict=True)).rstrip()
        for pair in zip(rows[::2], rows[1::2], strict=True)
    )
    return "\n".join([*lines, ""])
