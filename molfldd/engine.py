"""What a run computes on, and how it is told to stop."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import torch
from lightning_fabric import Fabric

from molfldd.errors import UsageError

PRECISIONS = ("auto", "32-true", "bf16-mixed")
"""Half precision is too small for the gradients, and pure bfloat16 for the weights."""


@dataclass(frozen=True)
class Engine:
    """Where and how to compute.

    Attributes:
        accelerator: "cpu", "cuda", "auto", ...
        devices: Processes on this machine.
        nodes: Machines.
        precision: One of ``PRECISIONS``; "auto" picks bfloat16 where the hardware computes it.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.devices < 1 or self.nodes < 1:
            raise UsageError("the numbers of devices and nodes must be at least 1")
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"there is no --precision {self.precision}; known are: {', '.join(PRECISIONS)}"
            )

    def check_batch(self, batch_size: int | str) -> None:
        """Refuse a batch that the processes cannot share evenly, with a ``UsageError``."""
        processes = self.devices * self.nodes
        if isinstance(batch_size, int) and batch_size % processes:
            raise UsageError(
                f"config key 'training.batch_size': {batch_size} cannot be shared evenly by "
                f"{processes} processes"
            )

    def fabric(self) -> Fabric:
        """The launched engine."""
        precision: Any = self.precision
        if precision == "auto":
            precision = fast_precision(self.accelerator)
        try:
            fabric = Fabric(
                accelerator=self.accelerator,
                devices=self.devices,
                num_nodes=self.nodes,
                precision=precision,
            )
        except (ValueError, RuntimeError, TypeError, ImportError) as error:
            raise UsageError(f"cannot set up the device: {' '.join(str(error).split())}") from error
        fabric.launch()
        return fabric


def peak_memory(device: torch.device) -> float:
    """The most this process has held so far, MiB: of a GPU's memory, else of all; 0: unknown.

    Of all, it is what Linux has counted for this process alone; ``ru_maxrss`` would count what its
    parent held too.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(held[1]) / 1024 if held else 0.0


def part(fabric: Fabric) -> None:
    """End the connection between several processes, once all are done; nothing can follow.

    Without it, one that ends first can make another abort at its own end.
    """
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()


def lost_another(error: RuntimeError) -> bool:
    """Whether an error says that another process of the training is gone.

    gloo, which processes talk by on CPUs, has no class of errors for it.
    """
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def not_compiled(error: RuntimeError) -> bool:
    """Whether an error says that ``torch.compile`` could not do its work, for want of a compiler.

    By the module of its class, since to import that takes a second.
    """
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def fast_precision(accelerator: str) -> str:
    """ "bf16-mixed" where the accelerator has bfloat16 arithmetic, else "32-true"."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        real = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if real else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


@contextmanager
def stop_signals() -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set, instead of breaking in between two instructions.

    Off the main thread signals are left alone.
    """
    stop = Event()
    if current_thread() is not main_thread():
        yield stop
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
