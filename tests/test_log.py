"""The log of a run: what is appended, cut and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from molfldd.errors import MolflddError
from molfldd.log import LOG, RunLog, read_log


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json\n", "is not the log of a run"),
        ('{"iteration": 3}\n', "is not the log of a run"),
        ("[1]\n", "is not the log of a run"),
        ("", "holds no evaluation yet"),
        ('{"event": "train", "iteration": 1}\n', "holds no evaluation yet"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(content)
    with pytest.raises(MolflddError, match=message):
        read_log(path)


def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RunLog(path)
    log.add("evaluate", 1, bound=2.0)
    path.write_text(path.read_text() + '{"event": "tra')
    assert read_log(path) == [{"event": "evaluate", "iteration": 1, "bound": 2.0}]


def test_a_damaged_line_goes_when_the_log_is_cut(tmp_path: Path) -> None:
    log = RunLog(tmp_path / LOG)
    log.add("evaluate", 1, bound=2.0)
    whole = log.path.read_text()
    log.path.write_text(whole + "\0\0\0\n[1]\n")
    log.cut(5)
    assert log.path.read_text() == whole


def test_what_came_after_an_iteration_is_cut(tmp_path: Path) -> None:
    log = RunLog(tmp_path / LOG)
    for iteration in (1, 2, 3):
        log.add("evaluate", iteration)
    log.path.write_text(log.path.read_text() + '{"event": "tra')
    log.cut(2)
    assert [entry["iteration"] for entry in read_log(log.path)] == [1, 2]
    assert log.path.read_text().count("\n") == 2


def test_only_one_process_writes(tmp_path: Path) -> None:
    log = RunLog(tmp_path / LOG, writes=False)
    log.add("evaluate", 1)
    log.cut(0)
    assert not log.path.exists()


def test_unreadable_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MolflddError, match="cannot read the log"):
        read_log(tmp_path / "missing.jsonl")
