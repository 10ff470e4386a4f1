"""Training with two processes, however they were started: the same model."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from program import CPU, PROGRAM

from molfldd.model import load_model
from molfldd.run import MODEL

SMALL = ("data.examples=300", "network.width=16", "phases.0.iterations=4", "phases.1.iterations=2")


def arguments(folder: Path) -> list[str]:
    sets = [part for change in SMALL for part in ("--set", change)]
    return ["train", "toy", "--out", str(folder), "--devices", "2", *sets, *CPU]


def launch(command: list[str], **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )


def by_itself(folder: Path) -> list[subprocess.Popen[str]]:
    return [launch([*PROGRAM, *arguments(folder)])]


def by_torchrun(folder: Path) -> list[subprocess.Popen[str]]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [launch([*torchrun, "--no-python", *PROGRAM, *arguments(folder)])]


def by_slurm(folder: Path) -> list[subprocess.Popen[str]]:
    """The variables that ``srun --ntasks-per-node=2`` sets."""
    job = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODELIST": "localhost",
        "SLURM_NODEID": "0",
        "MASTER_PORT": str(free_port()),
    }
    return [
        launch([*PROGRAM, *arguments(folder)], **job, SLURM_PROCID=rank, SLURM_LOCALID=rank)
        for rank in ("0", "1")
    ]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return int(bound.getsockname()[1])


def trained(processes: list[subprocess.Popen[str]], folder: Path) -> dict[str, torch.Tensor]:
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), said
    return load_model(folder / MODEL).sampler.reverse.state_dict()


@pytest.mark.skipif(sys.platform != "linux", reason="the launchers are those of Linux clusters")
def test_launchers_start_the_same_training(tmp_path: Path) -> None:
    expected = trained(by_itself(tmp_path / "itself"), tmp_path / "itself")
    for name, start in (("torchrun", by_torchrun), ("slurm", by_slurm)):
        found = trained(start(tmp_path / name), tmp_path / name)
        assert all(torch.equal(found[key], value) for key, value in expected.items()), name
