"""What the commands share: a trained model on its device, and its examples with a clock."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING, Any

from molfldd.errors import UsageError

if TYPE_CHECKING:
    from molfldd.model import Model


class Device(StrEnum):
    """Where a network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def resolve_device(device: Device) -> str:
    """The device's name for torch; raises ``UsageError`` if there is none of the kind."""
    import torch

    available = torch.cuda.is_available()
    if device is Device.cuda and not available:
        raise UsageError("there is no CUDA device here; use --device cpu")
    return "cuda" if available and device is not Device.cpu else "cpu"


def model_on(checkpoint: str, device: Device) -> Model:
    """The model of an embedded name or a path, on its device.

    Raises:
        UsageError: if there is none.
        MolflddError: if the file cannot be read.
    """
    from molfldd import load_pretrained

    place = resolve_device(device)
    return load_pretrained(checkpoint).to(place)


@dataclass
class Generation:
    """What a model generates, batch by batch; ``seconds`` grows while it does.

    Attributes:
        batches: Decoded examples, or trajectories, as the model draws them.
        num: How many there are in all.
        batch_size: How many there are in a batch.
        plural: What the domain calls them.
        quiet: No progress bar.
        seconds: Time spent on drawing so far.
    """

    batches: Iterator[list[Any]]
    num: int
    batch_size: int
    plural: str
    quiet: bool = False
    seconds: float = 0.0

    def __iter__(self) -> Iterator[Any]:
        """One after another, usable or not."""
        for batch in self._progress():
            yield from batch

    def _timed(self) -> Iterator[list[Any]]:
        started = perf_counter()
        for batch in self.batches:
            self.seconds += perf_counter() - started
            yield batch
            started = perf_counter()

    def _progress(self) -> Iterator[list[Any]]:
        from rich.console import Console
        from rich.progress import track

        yield from track(
            self._timed(),
            description=f"sampling {self.num:,} {self.plural}",
            total=-(-self.num // self.batch_size),
            console=Console(stderr=True),
            transient=True,
            disable=self.quiet or not sys.stderr.isatty(),
        )
