"""Sampling, Algorithm 2: only the reverse network runs.

Every example has its own stream of random numbers, named by (seed, index). Example i of a seed
is thus the same molecule, picture or text whatever the batch size or the number of processes,
up to the rounding of the network's arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from molfldd.core.blocks import Codes, Masks, Prior, SizeDistribution, masks
from molfldd.core.joint import NUMBERS, JointDraw
from molfldd.core.law import AS_IT_IS, Hand, Law, Sharpness
from molfldd.core.network import evaluating
from molfldd.core.reverse import ReverseProcess


@dataclass(frozen=True)
class Samples:
    """Generated examples.

    Attributes:
        trajectory: States z_T, ..., z_0 (or z_0 alone), each block name to (B, n) int64.
        mask: Elements that exist, (B, n) bool per block.
        sizes: (B,) int64.
    """

    trajectory: tuple[dict[str, Tensor], ...]
    mask: dict[str, Tensor]
    sizes: Tensor

    @property
    def codes(self) -> dict[str, Tensor]:
        """The generated data z_0, (B, n) int64 per block."""
        return self.trajectory[-1]


@dataclass(frozen=True)
class State:
    """A state on the way from noise to data.

    Attributes:
        z: z_s, block name to (B, n) int64.
        mask: Elements that exist, (B, n) bool per block.
        sizes: (B,) int64.
        law: p_theta(z_s | z_t) that it was drawn from; None for z_T.
    """

    z: dict[str, Tensor]
    mask: dict[str, Tensor]
    sizes: Tensor
    law: Law | None


def example_noise(seed: int, index: int, rows: int, columns: int) -> Tensor:
    """The uniform numbers of one example, (rows, columns); the same for any company it keeps."""
    generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + index * 0x85EBCA77) % 2**63)
    return torch.rand(rows, columns, generator=generator)


class Sampler:
    """Draws examples from a trained reverse process.

    Args:
        reverse: p_theta.
        prior: p(z_T), ``Diffusion.prior``.
        sizes: p(n).
        joint: How the elements of a block are drawn together; independently if it is not named.
            An autoregressive process has a way of its own.
        sharpness: What is preferred; by default the model stays as it is.
        steps: T, one of the process' walks; its first by default.

    Raises:
        ValueError: if there is no such walk.
    """

    def __init__(
        self,
        reverse: ReverseProcess,
        prior: Prior,
        sizes: SizeDistribution,
        joint: Mapping[str, JointDraw] | None = None,
        sharpness: Sharpness = AS_IT_IS,
        steps: int | None = None,
    ) -> None:
        self.reverse = reverse
        self.prior = prior
        self.sizes = sizes
        self.joint = joint or {}
        self.sharpness = sharpness
        self.steps = reverse.clock.walks[0] if steps is None else steps
        reverse.clock.steps(self.steps)
        largest = torch.tensor([sizes.largest])
        self._categories = {block.name: block.categories for block in reverse.blocks}
        self._lengths = {block.name: int(block.length(largest)) for block in reverse.blocks}

    def _noise(self, seed: int, indices: Sequence[int]) -> Tensor:
        rows = self.steps + 2
        columns = NUMBERS * sum(self._lengths.values()) + (self.reverse.components > 1)
        return torch.stack([example_noise(seed, i, rows, columns) for i in indices])

    def _hand(self, mask: Masks, numbers: Tensor) -> Hand:
        """What a step is drawn with, from its row of numbers (B, columns)."""
        each, start = {}, 0
        for name, exists in mask.items():
            length = exists.shape[1]
            row = numbers[:, start : start + NUMBERS * length]
            each[name] = row.view(len(row), length, NUMBERS)
            start += NUMBERS * self._lengths[name]
        return Hand(mask, each, numbers[:, -1], self.joint)

    def _law(self, z: Codes, mask: Masks, step: Tensor) -> Law:
        """p_theta(z_s | z_t) as it is drawn from."""
        law = self.reverse.law(self.prior.onehot(z), mask, step)
        return law if self.sharpness == AS_IT_IS else law.changed(self._sharpened)

    def _sharpened(self, name: str, log_probs: Tensor) -> Tensor:
        return self.sharpness(log_probs, self._categories[name])

    def walk(self, seed: int, indices: Sequence[int]) -> Iterator[State]:
        """The states z_T, ..., z_0 of the examples of a seed, each with the law it is drawn from.

        The laws are differentiable, unless gradients are switched off.

        Args:
            seed: Names the whole set of samples.
            indices: Which of the set to draw; B of them.
        """
        device = next(self.reverse.parameters()).device
        noise = self._noise(seed, indices)
        sizes = self.sizes.quantile(noise[:, 0, 0]).to(device)
        noise = noise.to(device)
        mask = masks(self.reverse.blocks, sizes)
        hand = self._hand(mask, noise[:, 1])
        z = {
            name: hand.joint_draw(name, self.prior.probs[name].to(device).expand(*m.shape, -1))
            for name, m in mask.items()
        }
        yield State(z, mask, sizes, None)
        for row, step in enumerate(reversed(self.reverse.clock.steps(self.steps)), start=2):
            law = self._law(z, mask, torch.full_like(sizes, step))
            with torch.no_grad():
                z = law.draw(self._hand(mask, noise[:, row]))
            yield State(z, mask, sizes, law)

    @torch.no_grad()
    def sample(
        self, seed: int, indices: Sequence[int], *, keep_trajectory: bool = False
    ) -> Samples:
        """The examples of a seed at the given indices.

        Args:
            seed: Names the whole set of samples.
            indices: Which of the set to draw; B of them.
            keep_trajectory: Keep every state from z_T to z_0 instead of z_0 alone.
        """
        states: list[dict[str, Tensor]] = []
        with evaluating(self.reverse):
            for state in self.walk(seed, indices):
                states = [*states, state.z] if keep_trajectory else [state.z]
        return Samples(tuple(states), state.mask, state.sizes)
