"""``molfldd train`` as a process that is interrupted or killed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from program import CPU, files, same_weights, start

from molfldd.checkpoint import read_checkpoint
from molfldd.log import LOG
from molfldd.run import MODEL, STATE

ENDLESS = [
    "data.examples=300",
    "network.width=16",
    "training.batch_size=16",
    "phases.0.iterations=10000000",
    "monitor.log_every=1",
    "monitor.checkpoint_every=5",
    "monitor.samples=10",
]


def toy_arguments(folder: Path, *changes: str) -> list[str]:
    sets = [part for change in (*ENDLESS, *changes) for part in ("--set", change)]
    return ["train", "toy", "--out", str(folder), *sets, *CPU]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_state(tmp_path: Path, number: signal.Signals) -> None:
    process = start(*toy_arguments(tmp_path / "a"))
    wait_for(tmp_path / "a" / LOG, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err
    assert "Traceback" not in err
    header, state = read_checkpoint(tmp_path / "a" / STATE)
    assert state["iteration"] == header["metrics"]["iterations"] > 0
    assert {path.name for path in files(tmp_path)} == {STATE, MODEL, LOG, "config.yaml"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there are no such signals here")
def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    """At most the iterations since then are lost, and the end is that of an unbroken run.

    All are processes of their own, with as many threads: rounding depends on that.
    """
    process = start(*toy_arguments(tmp_path / "killed"))
    wait_for(tmp_path / "killed" / STATE, process)
    process.kill()
    process.communicate(timeout=60)
    logged = [json.loads(line) for line in whole_lines(tmp_path / "killed" / LOG)]
    _, state = read_checkpoint(tmp_path / "killed" / STATE)
    assert 0 <= logged[-1]["iteration"] - state["iteration"] <= 5
    short = (f"phases.0.iterations={state['iteration'] + 3}", "phases.1.iterations=2")
    finish(start(*toy_arguments(tmp_path / "killed", *short), "--resume"))
    finish(start(*toy_arguments(tmp_path / "whole", *short)))
    assert same_weights(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes cannot be told apart here")
def test_the_others_end_when_a_process_of_a_training_is_killed(tmp_path: Path) -> None:
    """With one sentence, and a state to resume from."""
    out = tmp_path / "two"
    two = ("--devices", "2")
    process = start(*toy_arguments(out), *two)
    wait_for(out / STATE, process)
    (child,) = children(process.pid)
    os.kill(child, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "another process of this training ended" in err
    assert "Traceback" not in err
    logged = [json.loads(line) for line in whole_lines(out / LOG)]
    _, state = read_checkpoint(out / STATE)
    assert 0 <= logged[-1]["iteration"] - state["iteration"] <= 5
    short = (f"phases.0.iterations={state['iteration'] + 3}", "phases.1.iterations=2")
    finish(start(*toy_arguments(out, *short), "--resume", *two))


def children(pid: int) -> list[int]:
    stats = [path.read_text().rpartition(") ") for path in Path("/proc").glob("[0-9]*/stat")]
    return [int(head.split()[0]) for head, _, tail in stats if int(tail.split()[1]) == pid]


def finish(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
