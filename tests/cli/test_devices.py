"""Several processes: the same bytes as one, and no traces of those that were ended."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from program import Command, start

from molfldd.cli.generation import Device, drawing
from molfldd.errors import MolflddError, UsageError
from molfldd.model import Manner, Model

CHILDREN = "/proc/{0}/task/{0}/children"

linux = pytest.mark.skipif(not Path(CHILDREN.format(os.getpid())).is_file(), reason="no /proc")


def draw(
    molfldd: Command, checkpoint: Path, out: Path, options: tuple[object, ...]
) -> tuple[bytes, str]:
    common = ("--checkpoint", checkpoint, "--device", "cpu", "--batch-size", 40)
    result = molfldd("sample", *common, *options, "--out", out)
    assert result.code == 0, result.err
    return out.read_bytes(), result.err


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".sdf", ("--num", 290)),
        (".csv", ("--num", 100, "--joint", "independent", "--temperature", 0.7)),
        (".csv", ("--num", 3, "--only-valid")),
    ],
)
def test_two_processes_write_the_bytes_of_one(
    molfldd: Command, checkpoint: Path, tmp_path: Path, suffix: str, options: tuple[object, ...]
) -> None:
    out = tmp_path / f"out{suffix}"
    one, said = draw(molfldd, checkpoint, out, options)
    two, said_by_two = draw(molfldd, checkpoint, out, (*options, "--devices", 2))
    assert one == two
    assert one.count(b"\n") > 3
    assert said.split(" in ")[0] == said_by_two.split(" in ")[0]


def test_two_processes_get_the_scores_of_one(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    def scores(*options: object) -> Any:
        out = tmp_path / "report.json"
        common = ("--num", 100, "--batch-size", 30, "--seed", 0, "--seed", 1, "--device", "cpu")
        result = molfldd(
            "evaluate", checkpoint, "--reference", "none", *common, *options, "--out", out
        )
        assert result.code == 0, result.err
        report = json.loads(out.read_text())
        assert len(report.pop("seconds")) == 2
        return report

    assert scores("--devices", 2) == scores()


@contextmanager
def started(checkpoint: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """The program with an endless task for two processes, and the children it has by then."""
    options = ["--checkpoint", str(checkpoint), "--device", "cpu", "--devices", "2"]
    arguments = ["sample", "--num", "100000000", "--out", str(folder / "out.smi"), *options]
    program = start(*arguments, session=True)
    try:
        yield program, workers(program)
    finally:
        program.kill()


def workers(program: subprocess.Popen[str]) -> list[int]:
    """The two processes that work for a program, once they are there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and program.poll() is None:
        children = Path(CHILDREN.format(program.pid)).read_text().split()
        found = [int(child) for child in children if is_worker(child)]
        if len(found) == 2:
            return found
        time.sleep(0.05)
    raise AssertionError(program.communicate()[1])


def is_worker(pid: str) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


@linux
def test_a_killed_process_is_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    with started(checkpoint, tmp_path) as (program, (_, second)):
        os.kill(second, signal.SIGKILL)
        out, err = program.communicate(timeout=60)
    assert program.returncode == 1
    assert out == ""
    assert err.startswith("error: a process that works for this one was ended")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@linux
def test_ctrl_c_is_quiet(checkpoint: Path, tmp_path: Path) -> None:
    """The terminal sends it to all processes, even to those that are just starting."""
    with started(checkpoint, tmp_path) as (program, _):
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert (out, err) == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_at_least_one_process(molfldd: Command, checkpoint: Path, command: str) -> None:
    option = ["--checkpoint"] if command == "sample" else []
    result = molfldd(command, *option, checkpoint, "--devices", 0)
    assert result.code == 2
    assert "--devices" in result.error


def test_every_process_needs_a_gpu_of_its_own(
    molfldd: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    result = molfldd("sample", "--checkpoint", checkpoint, "--devices", 3)
    assert result.code == 2
    assert "not 3 CUDA devices here but 2; use --devices 2" in result.error


def test_trajectories_are_drawn_by_one_process(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    for options in (["--devices", 2], ["--only-valid"]):
        arguments = ("--checkpoint", checkpoint, "--trajectory", "--out", tmp_path / "a.png")
        result = molfldd("sample", *arguments, *options)
        assert result.code == 2
        assert options[0] in result.error


def test_a_checkpoint_that_is_replaced_meanwhile(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    with drawing(str(path), Device.cpu, 2, Manner()) as drawer:
        path.unlink()
        path.write_bytes(checkpoint.read_bytes())
        os.utime(path, ns=(0, 0))
        with pytest.raises(MolflddError, match="was changed while it was read"):
            next(drawer.batches(Model.draw, 0, [range(1)]))


def test_a_missing_model(molfldd: Command) -> None:
    with (
        pytest.raises(UsageError, match="no model 'zinc99'"),
        drawing("zinc99", Device.cpu, 2, Manner()),
    ):
        pass
    result = molfldd("sample", "--checkpoint", "missing.safetensors", "--devices", 2)
    assert result.code == 1
    assert "missing.safetensors" in result.error
