"""What the commands share: a trained model that draws, and its examples with a clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molfldd.errors import UsageError

if TYPE_CHECKING:
    from molfldd.model import Manner
    from molfldd.parallel import Drawer

Devices = Annotated[
    int,
    typer.Option(
        min=1,
        help="Processes on this machine that share the batches, each on a GPU of its own or on its "
        "share of the CPU; does not change the examples.",
    ),
]
"""The option of how many processes draw."""


JointOption = Annotated[
    str | None,
    typer.Option(
        "--joint",
        metavar="NAME",
        help="How a step draws its elements together, always with the same probabilities of each: "
        "'independent', as the paper does; 'balanced', evenly spread over neighbours; or "
        "'smooth', neighbours alike (images).",
        show_default="balanced for molecules, smooth for images, else independent",
    ),
]
"""The option of how the elements of a step are drawn together."""

StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=1,
        help="Sampling steps: 4, 10 or 100 with the embedded models of QM9; a checkpoint has those "
        "that it was trained for.",
    ),
]
"""The option of how many steps a model takes."""

TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        help="Below 1 a step prefers what is likely anyway: more examples are valid, and fewer "
        "are unusual. 1 is the model as it was trained.",
        show_default="what the model was calibrated with, else 1",
    ),
]
"""The option of how much likely values are preferred."""

MinPOption = Annotated[
    float | None,
    typer.Option(
        "--min-p",
        help="What is less than this times as likely as the likeliest never comes: more examples "
        "are valid, and fewer are unusual. 0 is the model as it was trained.",
        show_default="what the model was calibrated with, else 0",
    ),
]
"""The option of how unlikely a value may be."""

MinRevealOption = Annotated[
    float | None,
    typer.Option(
        "--min-reveal",
        help="The same of whether an element is revealed in a step or stays masked; for few steps.",
        show_default="what the model was calibrated with, else 0",
    ),
]
"""The option of how unlikely it may be to be revealed, or not to be."""


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


def resolve_devices(device: Device, count: int) -> list[str]:
    """The devices' names for torch; raises ``UsageError`` if there are not so many."""
    import torch

    kind = resolve_device(device)
    if kind == "cpu":
        return [kind] * count
    available = torch.cuda.device_count()
    if count > available:
        raise UsageError(
            f"there are not {count} CUDA devices here but {available}; use --devices {available} "
            "or less, or --device cpu"
        )
    return [f"{kind}:{number}" for number in range(count)]


@contextmanager
def drawing(checkpoint: str, device: Device, devices: int, manner: Manner) -> Iterator[Drawer]:
    """What draws from the model of an embedded name or a path, in so many processes.

    Raises:
        UsageError: if there is no such model, it cannot draw in this manner, or there are not so
            many devices.
        MolflddError: if the file cannot be read.
    """
    from molfldd.model import load_model, pretrained_path
    from molfldd.parallel import Checkpoint, ManyProcesses, OneProcess
    from molfldd.processes import Processes

    path = pretrained_path(checkpoint)
    places = resolve_devices(device, devices)
    model = load_model(path).drawing(manner)
    if devices == 1:
        yield OneProcess(model.to(places[0]))
        return
    with Processes(devices) as processes:
        yield ManyProcesses(model, Checkpoint.of(path, places, manner), processes)


@dataclass
class Generation:
    """What a model generates, batch by batch, with a progress bar; ``seconds`` tells how long.

    Attributes:
        batches: What was drawn, as it comes.
        title: What the progress bar says.
        total: How many batches there are; None if that is not known.
        quiet: No progress bar.
        seconds: Time from the start until the last batch so far.
    """

    batches: Iterator[list[Any]]
    title: str
    total: int | None
    quiet: bool = False
    seconds: float = 0.0

    def __iter__(self) -> Iterator[Any]:
        """One after another, usable or not."""
        from molfldd.progress import shown

        for batch in shown(self._timed(), self.title, self.total, quiet=self.quiet):
            yield from batch

    def _timed(self) -> Iterator[list[Any]]:
        started = perf_counter()
        for batch in self.batches:
            self.seconds = perf_counter() - started
            yield batch
