"""Pictures and arrays: what is in them comes back."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from molfldd.images.files import MASKED, TRAJECTORY_WRITERS, WRITERS, as_text, grid, square


def pictures(count: int, height: int = 4, width: int = 6) -> list[np.ndarray]:
    generator = np.random.default_rng(count)
    return list(255 * generator.integers(0, 2, (count, height, width), np.uint8))


def test_grid_keeps_every_pixel():
    images = pictures(5)
    drawn = grid(images, 3)
    assert drawn.shape == (2 * 6 + 2, 3 * 8 + 2)
    assert np.array_equal(drawn[2:6, 2:8], images[0])
    assert np.array_equal(drawn[2:6, 18:24], images[2])
    assert np.array_equal(drawn[8:12, 10:16], images[4])
    assert len(np.unique(drawn[8:12, 18:24])) == 1


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (5, 3), (64, 8)])
def test_square_is_about_square(count, columns):
    assert square(pictures(count)).shape[1] == columns * 8 + 2


def test_png_is_the_enlarged_grid(tmp_path):
    images = pictures(5)
    WRITERS[".png"](tmp_path / "file.tmp", iter(images))
    with Image.open(tmp_path / "file.tmp") as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture)[::21, ::21], square(images))


def test_npz_holds_the_arrays(tmp_path):
    WRITERS[".npz"](tmp_path / "file.tmp", iter(pictures(3)))
    with np.load(tmp_path / "file.tmp") as file:
        assert np.array_equal(file["images"], np.stack(pictures(3)))


def test_trajectories_are_rows_frames_and_arrays(tmp_path):
    rows = [[np.full((4, 6), MASKED, np.uint8), *pictures(2)] for _ in range(3)]
    for suffix, write in TRAJECTORY_WRITERS.items():
        write(tmp_path / f"file{suffix}", iter(rows))
    with Image.open(tmp_path / "file.png") as picture:
        drawn = np.asarray(picture)[::21, ::21]
        assert np.array_equal(drawn, grid([state for row in rows for state in row], 3))
    with Image.open(tmp_path / "file.gif") as picture:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(picture)]
        assert len(frames) == 3
        assert np.array_equal(frames[1][::21, ::21], square([row[1] for row in rows]))
    with np.load(tmp_path / "file.npz") as file:
        assert np.array_equal(file["trajectories"], np.array(rows))


def test_text_has_two_rows_in_a_line():
    image = np.array([[255, 0, 255], [0, 255, 255], [255, 0, 0]], np.uint8)
    assert as_text(image) == "▀▄█\n▀\n"
