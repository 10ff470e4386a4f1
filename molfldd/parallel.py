"""Drawing from a trained model in one process or in several: the same examples in any.

Every example is named by (seed, index) and every batch is computed whole by one process, so that
only who computes a batch depends on the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch

from molfldd.errors import MolflddError
from molfldd.model import Manner, Model, load_model
from molfldd.processes import Processes, process_number, processors

Draw = Callable[[Model, int, range], list[Any]]
"""Gives something for each of a seed's examples at some indices, such as ``Model.draw``."""


class Drawer(Protocol):
    """Draws from a model."""

    @property
    def model(self) -> Model:
        """The model, to be asked about; it may be on another device than what draws."""

    def batches(self, draw: Draw, seed: int, batches: Iterable[range]) -> Iterator[list[Any]]:
        """What ``draw`` gives for each batch of indices of a seed, in order, in constant memory."""


@dataclass(frozen=True)
class OneProcess:
    """Draws in this process, where its model is."""

    model: Model

    def batches(self, draw: Draw, seed: int, batches: Iterable[range]) -> Iterator[list[Any]]:
        """See ``Drawer``."""
        return (draw(self.model, seed, indices) for indices in batches)


@dataclass(frozen=True)
class Checkpoint:
    """A file as it is now, and where each process computes with it.

    Attributes:
        path: The file.
        version: Tells it from any file that takes its place.
        devices: Of each process, as torch calls it.
        manner: How the model draws.
    """

    path: Path
    version: tuple[int, ...]
    devices: tuple[str, ...]
    manner: Manner

    @classmethod
    def of(cls, path: Path, devices: Iterable[str], manner: Manner) -> Checkpoint:
        """The checkpoint; raises ``OSError`` if there is none."""
        return cls(path.absolute(), _version(path), tuple(devices), manner)


@dataclass(frozen=True)
class ManyProcesses:
    """Draws in processes that each have loaded the model.

    ``batches`` raises ``MolflddError`` if a process is ended from outside, or if another file
    takes the checkpoint's place before all have loaded it.
    """

    model: Model
    checkpoint: Checkpoint
    processes: Processes

    def batches(self, draw: Draw, seed: int, batches: Iterable[range]) -> Iterator[list[Any]]:
        """See ``Drawer``."""
        return self.processes.map(partial(_draw, draw, self.checkpoint, seed), batches)


def _draw(draw: Draw, checkpoint: Checkpoint, seed: int, indices: range) -> list[Any]:
    return draw(_load(checkpoint), seed, indices)


@cache
def _load(checkpoint: Checkpoint) -> Model:
    """The model of this process, which has its share of the processors."""
    share = processors() // len(checkpoint.devices)
    torch.set_num_threads(max(1, min(torch.get_num_threads(), share)))
    model = load_model(checkpoint.path).drawing(checkpoint.manner)
    if _version(checkpoint.path) != checkpoint.version:
        raise MolflddError(f"{checkpoint.path} was changed while it was read; start again")
    return model.to(checkpoint.devices[process_number()])


def _version(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
