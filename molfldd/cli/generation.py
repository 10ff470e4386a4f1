"""What the commands share: a model of molecules, and molecules from it with a count."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING

from molfldd.errors import UsageError

if TYPE_CHECKING:
    from rdkit import Chem

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


def molecule_model(checkpoint: str, device: Device) -> Model:
    """The model of an embedded name or a path, on its device.

    Raises:
        UsageError: if there is none, or if it does not generate molecules.
        MolflddError: if the file cannot be read.
    """
    from molfldd import load_pretrained

    place = resolve_device(device)
    model = load_pretrained(checkpoint)
    if model.config.domain != "molecules":
        raise UsageError(
            f"{checkpoint} is a model of the domain '{model.config.domain}', this command is for "
            "molecules; use the Python API, molfldd.load_pretrained(...).sample(...)"
        )
    return model.to(place)


@dataclass
class Generation:
    """Molecules of a model, drawn batch by batch; ``seconds`` grows while they are.

    Attributes:
        model: The model.
        num: How many molecules.
        seed: Names them.
        batch_size: Molecules computed at once.
        quiet: No progress bar.
        seconds: Time spent on drawing so far.
    """

    model: Model
    num: int
    seed: int
    batch_size: int
    quiet: bool = False
    seconds: float = 0.0

    def __iter__(self) -> Iterator[Chem.Mol]:
        """The molecules as generated, valid or not."""
        for batch in self._progress():
            yield from batch

    def _batches(self) -> Iterator[list[Chem.Mol]]:
        batches = self.model.stream(self.num, seed=self.seed, batch_size=self.batch_size)
        started = perf_counter()
        for batch in batches:
            self.seconds += perf_counter() - started
            yield batch
            started = perf_counter()

    def _progress(self) -> Iterator[list[Chem.Mol]]:
        from rich.console import Console
        from rich.progress import track

        yield from track(
            self._batches(),
            description=f"sampling {self.num:,} molecules",
            total=-(-self.num // self.batch_size),
            console=Console(stderr=True),
            transient=True,
            disable=self.quiet or not sys.stderr.isatty(),
        )
