"""What the tests of the commands share."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import molfldd.run
from molfldd.model import load_model
from molfldd.run import MODEL

Command = Callable[..., Any]

PROGRAM = [sys.executable, "-m", "molfldd.cli.main"]
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


@contextmanager
def stopping_after(iterations: int) -> Iterator[None]:
    """As if Ctrl-C had been pressed during that iteration."""

    class Stop:
        left = iterations

        def is_set(self) -> bool:
            self.left -= 1
            return self.left == 0

    @contextmanager
    def signals() -> Iterator[Stop]:
        yield Stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(molfldd.run, "stop_signals", signals)
        yield
