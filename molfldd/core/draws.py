"""The random choices of training, each named by (seed, iteration, process)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from molfldd.core.clock import Clock
from molfldd.core.phases import TrainingOptions


@dataclass(frozen=True)
class Draws:
    """The random choices of every iteration, named by (seed, iteration, process).

    Attributes:
        sizes: Sizes of the examples of the data set, (N,) int64.
        clock: The walks.
        options: Batch size, grouping and seed.
        rank: Index of this process.
        processes: Number of processes; they share each batch evenly.

    Raises:
        ValueError: if they cannot.
    """

    sizes: Tensor
    clock: Clock
    options: TrainingOptions
    rank: int = 0
    processes: int = 1

    _groups: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.options.share(self.processes)

    def indices(self, iteration: int) -> Tensor:
        """This process' examples, one permutation of the data after another, (B,) int64."""
        share = self.options.share(self.processes)
        group, place = divmod(iteration, self.options.grouped)
        batch = self._group(group)[place]
        return batch[self.rank * share : (self.rank + 1) * share]

    def _group(self, number: int) -> Tensor:
        """The examples of ``grouped`` batches, similar sizes together, (grouped, batch)."""
        if number not in self._groups:
            self._groups.clear()
            self._groups[number] = self._grouped(number)
        return self._groups[number]

    def _grouped(self, number: int) -> Tensor:
        batches, examples = self.options.grouped, len(self.sizes)
        count = batches * self.options.share(self.processes) * self.processes
        positions = torch.arange(number * count, (number + 1) * count)
        epochs = range(int(positions[0]) // examples, int(positions[-1]) // examples + 1)
        orders = [
            self._permutation(e)[positions[positions // examples == e] % examples] for e in epochs
        ]
        rows = torch.cat(orders)
        if batches == 1:
            return rows[None]
        rows = rows[self.sizes[rows].argsort(stable=True)].view(batches, -1)
        return rows[torch.randperm(batches, generator=self._generator(number, -1))]

    def times(self, iteration: int) -> Tensor:
        """M steps of every example, (M * B,) int64: the walks in turn, a uniform step of each.

        Together the steps of a walk are spread over it, and so are those of an example. The first
        of every example come first, then the second, and so on.
        """
        share, each = self.options.share(self.processes), self.options.steps_per_example
        places = torch.arange(share * each) + self.rank * share * each
        clock, generator = self.clock, self._generator(iteration, 0)
        t = torch.zeros_like(places)
        for turn, length in enumerate(clock.walks):
            offset = torch.randint(length, (1,), generator=generator)
            its = (places + iteration) % len(clock.walks) == turn
            within = (places // len(clock.walks) * stride(length) + offset) % length
            t = torch.where(its, clock.steps(length).start + within, t)
        return t.view(share, each).T.flatten()

    def augmentation(self, iteration: int) -> torch.Generator:
        """The randomness of how examples are said, on the CPU."""
        return self._generator(iteration, -2 - self.rank)

    def noise(self, iteration: int, device: torch.device) -> torch.Generator:
        """The randomness of z_t."""
        return self._generator(iteration, 1 + self.rank, device)

    def _permutation(self, epoch: int) -> Tensor:
        return _permutation(len(self.sizes), self.options.seed, epoch)

    def _generator(
        self, iteration: int, stream: int, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        seed = (self.options.seed * 1_000_003 + iteration) * 65_537 + stream
        return torch.Generator(device).manual_seed(seed % 2**63)


@lru_cache
def stride(length: int) -> int:
    """From one step to the next so that any few in a row are spread over a walk of this length.

    The number next to length / golden ratio that shares no divisor with the length.
    """
    golden = 2 * length / (1 + math.sqrt(5))
    coprime = [step for step in range(1, length + 1) if math.gcd(step, length) == 1]
    return min(coprime, key=lambda step: abs(step - golden))


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(count, generator=generator)
