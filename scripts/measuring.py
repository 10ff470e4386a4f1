"""Time, memory and stand-ins for data, for the benchmark."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console

from molfldd.core.blocks import Examples
from molfldd.domain import Data
from molfldd.molecules.domain import Molecules, bond_count
from molfldd.molecules.vocabulary import Vocabulary

console = Console(soft_wrap=True, highlight=False)
CPU = torch.device("cpu")


def random_data(atoms: int, count: int) -> Data:
    """Graphs of so many atoms with random categories, bonds as rare as in molecules."""
    vocabulary = Vocabulary.from_json(["C", "N", "O", "F"])
    domain = Molecules(vocabulary, atoms)
    sizes = torch.full((count,), atoms)
    bonds = (torch.rand(count, int(bond_count(sizes)[0])) < 2 / atoms).long()
    codes = {"atoms": torch.randint(4, (count, atoms)), "bonds": bonds}
    examples = Examples(domain.blocks, codes, sizes)
    return Data(domain, examples, examples, "random")


def least_seconds(call: Callable[[], object], times: int) -> float:
    """The least CPU time of several calls, after one that is not counted."""
    call()
    spent = []
    for _ in range(times):
        started = time.thread_time()
        call()
        spent.append(time.thread_time() - started)
    return min(spent)


class Clock:
    """CPU time of the calling thread spent inside ``with`` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.seconds -= time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time()

    def watch(self, module: torch.nn.Module) -> None:
        """Count the forward passes of a module."""
        module.register_forward_pre_hook(lambda *_: self.__enter__())
        module.register_forward_hook(lambda *_: self.__exit__())


def measured_alone(measure: Callable[..., None], *arguments: object) -> Any:
    """What a function puts into the queue it is given last, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=measure, args=(*arguments, results))
    process.start()
    found = results.get()
    process.join()
    return found
