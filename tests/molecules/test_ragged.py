import numpy as np

from molfldd.molecules.ragged import Ragged, as_range, ranges

ROWS = Ragged.of_lengths(np.arange(10, 20), np.array([3, 0, 5, 2], np.uint8))


def rows(ragged: Ragged) -> list[list[int]]:
    return [
        ragged.values[start:stop].tolist()
        for start, stop in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)
    ]


def test_rows_of_lengths() -> None:
    assert len(ROWS) == 4
    assert rows(ROWS) == [[10, 11, 12], [], [13, 14, 15, 16, 17], [18, 19]]


def test_lines_keep_their_newlines() -> None:
    text = Ragged.of_lines(np.frombuffer(b"CCO\n\nC\n", np.uint8))
    assert [bytes(row) for row in rows(text)] == [b"CCO\n", b"\n", b"C\n"]
    assert len(Ragged.of_lines(np.zeros(0, np.uint8))) == 0


def test_a_range_shares_the_values() -> None:
    part = ROWS.take(slice(1, 3))
    assert rows(part) == [[], [13, 14, 15, 16, 17]]
    assert np.shares_memory(part.values, ROWS.values)


def test_any_rows_in_any_order() -> None:
    assert rows(ROWS.take(np.array([3, 0, 0, 1]))) == [[18, 19], [10, 11, 12], [10, 11, 12], []]
    assert rows(ROWS.take(np.array([], np.int64))) == []


def test_padding() -> None:
    padded = ROWS.padded(np.array([2, 1, 0]), 6)
    assert padded.tolist() == [[13, 14, 15, 16, 17, 0], [0] * 6, [10, 11, 12, 0, 0, 0]]


def test_consecutive_rows_are_a_range() -> None:
    assert as_range(np.array([2, 3, 4])) == slice(2, 5)
    assert isinstance(as_range(np.array([2, 4])), np.ndarray)
    assert isinstance(as_range(np.array([4, 3])), np.ndarray)
    assert isinstance(as_range(np.array([], np.int64)), np.ndarray)


def test_ranges_cover_everything_once() -> None:
    assert list(ranges(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(ranges(0, 2)) == []
