"""Several processes are a flag of the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path


def train(folder: Path, *arguments: str) -> list[dict[str, object]]:
    """Evaluations of a short run of the toy recipe."""
    settings = [
        "data.examples=4000",
        "phases.0.iterations=60",
        "phases.1.iterations=40",
        "monitor.log_every=20",
    ]
    command = [sys.executable, "-m", "molfldd.cli.main", "train", "toy", "--out", str(folder)]
    changes = [part for setting in settings for part in ("--set", setting)]
    engine = ["--accelerator", "cpu", "--precision", "32-true"]
    subprocess.run(
        [*command, *changes, *engine, *arguments],
        check=True,
        timeout=300,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == "evaluate"]


def test_two_processes_reach_the_bound_of_one(tmp_path: Path) -> None:
    (one,) = train(tmp_path / "one")
    (two,) = train(tmp_path / "two", "--devices", "2")
    assert two["iteration"] == one["iteration"] == 100
    assert abs(two["bound"] - one["bound"]) < 0.02 * one["bound"]
