"""What the tests of the commands share."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from molfldd.model import load_model
from molfldd.run import MODEL

Command = Callable[..., Any]

PROGRAM = [sys.executable, "-c", "from molfldd.cli.main import run; run()"]
CPU = ("--accelerator", "cpu", "--precision", "32-true")


def start(*arguments: str, session: bool = False) -> subprocess.Popen[str]:
    """The program, which hears Ctrl-C even where the tests run in the background of a shell."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=session,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the reverse process in a run folder."""
    return load_model(folder / MODEL).sampler.reverse.state_dict()


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
