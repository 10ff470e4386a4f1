r"""Calibration: a small change of a trained generator that brings chosen statistics right.

A factorized step draws together what it should not, and what needs several elements to agree gets
rarer than it is in the data. How rare can be counted. Let f(x) be such counts, m their means over
the data, W the last layers of the reverse network, and

.. math:: s = \nabla_W \log p_W(z_0, \ldots, z_{T-1} \mid z_T)

the score of a generated chain of states, whose mean is 0. To first order in a change delta of W,

.. math:: E_{W + \delta}[f] = E_W[f] + G^T \delta, \quad G = E[s f^T], \qquad
    KL(p_W \,\|\, p_{W + \delta}) = \tfrac12 \delta^T F \delta, \quad F = E[s s^T].

The last layers cannot do everything, and what is forced upon them spoils something else. So the
change weighs what it costs against what it leaves undone,

.. math:: \min_\delta \; \tfrac12 \delta^T F \delta
    + \tfrac1{2 \rho} \| m - E_W[f] - G^T \delta \|^2, \quad
    \delta = F^{-1} G \, (G^T F^{-1} G + \rho I)^{-1} (m - E_W[f]),

with f in units of its standard deviation: a natural gradient step. F, G and E[f] are averages over
samples of the model; the data enter with m alone, and no gradient goes further back than the last
layers. The formula for G is that of independent draws; ``molfldd.core.joint`` has others, for which
it is an approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from molfldd.core.reverse import ReverseProcess
from molfldd.core.sampling import Sampler, Samples

LARGEST = 8_000
"""So many weights of the last layers, squared, are kept in memory and inverted."""

RIDGE = 0.01
"""Added to F, relative to its size: what is hardly seen in the samples is hardly changed."""

SOFTNESS = 0.5
"""rho: at 0 all means are to be reached, whatever else changes."""

CONSTANT = 1e-10
"""A statistic of less variance, relative to its square, does not vary: that much is rounding."""

TRUST = 0.5
"""A change of a larger KL, in nats per example, is not what its first order says."""


class LastLayers:
    """The last layers of a reverse network, as one vector W.

    Without the outputs that a head is told (``ReverseProcess.told``).

    Args:
        reverse: Its network names them: ``network.readouts``, linear layers.

    Attributes:
        size: Length of W.

    Raises:
        ValueError: if the network names none, or W is longer than ``LARGEST``.
    """

    def __init__(self, reverse: ReverseProcess) -> None:
        self.reverse = reverse
        layers = getattr(reverse.network, "readouts", None)
        if not layers:
            raise ValueError("its network names no last layers (readouts)")
        self.layers = cast(Sequence[nn.Linear], layers)
        self.size = sum(p.numel() for p in self._parts())
        if self.size > LARGEST:
            raise ValueError(
                f"the last layers have {self.size:,} weights, and no more than {LARGEST:,} can be "
                "calibrated"
            )
        self._seen: dict[nn.Linear, tuple[Tensor, Tensor]] = {}

    def _parts(self) -> list[Tensor]:
        """What W consists of: rows of weights and biases, layer by layer."""
        kept = [(layer, layer.out_features - self.reverse.told) for layer in self.layers]
        return [p[:rows] for layer, rows in kept for p in (layer.weight, layer.bias)]

    @property
    def ends(self) -> list[int]:
        """How many entries of W belong to each layer and those before it."""
        return list(accumulate(p.numel() for p in self._parts()))[1::2]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, gradients begin at these layers, and ``gradients`` can be asked for."""
        hooks = [layer.register_forward_hook(self._watch) for layer in self.layers]
        learns = {p: p.requires_grad for p in self.reverse.parameters()}
        self.reverse.requires_grad_(False)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for parameter, wanted in learns.items():
                parameter.requires_grad_(wanted)
            self._seen.clear()

    def _watch(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        assert isinstance(layer, nn.Linear)
        self._seen[layer] = inputs[0].detach(), leaf
        return leaf

    def gradients(self, values: Tensor) -> Tensor:
        """d values_b / d W for each example b of the last evaluation; (B,) to (B, size)."""
        seen = [self._seen[layer] for layer in self.layers]
        found = torch.autograd.grad(values.sum(), [leaf for _, leaf in seen])
        parts = []
        for (inputs, _), gradient in zip(seen, found, strict=True):
            inputs, gradient = (x.reshape(len(x), -1, x.shape[-1]) for x in (inputs, gradient))
            gradient = gradient[..., : gradient.shape[-1] - self.reverse.told]
            parts += [torch.einsum("bno,bni->boi", gradient, inputs).flatten(1), gradient.sum(1)]
        return torch.cat(parts, 1)

    @torch.no_grad()
    def move(self, change: Tensor) -> None:
        """Add a change (size,) to W."""
        own = self._parts()
        for p, part in zip(own, torch.split(change, [p.numel() for p in own]), strict=True):
            p.add_(part.view_as(p).to(p))


class Moments:
    """Sums over generated examples of what the change follows from.

    Args:
        size: Length of the scores s.
        wanted: m, the means of the statistics, (M,).
    """

    def __init__(self, size: int, wanted: Tensor) -> None:
        self.wanted = wanted.double()
        self.count = 0
        self._known = torch.zeros_like(self.wanted)
        self._sum = torch.zeros(size + len(wanted), dtype=torch.float64)
        self._products = torch.zeros(size + len(wanted), size + len(wanted), dtype=torch.float64)

    def add(self, scores: Tensor, statistics: Tensor) -> None:
        """Count examples in: s (B, size), f (B, M).

        A statistic that an example does not have, NaN, is taken to be as it should.
        """
        missing = statistics.isnan()
        away = torch.where(missing, 0.0, statistics.double() - self.wanted)
        row = torch.cat([scores.double(), away], 1)
        self.count += len(row)
        self._known += (~missing).sum(0)
        self._sum += row.sum(0)
        self._products += row.T @ row

    @property
    def means(self) -> Tensor:
        """E_W[f] over the examples that have them, (M,)."""
        return self.wanted + self._sum[-len(self.wanted) :] / self._known

    def change(self, softness: float = SOFTNESS) -> Tensor:
        """delta, (size,), shortened to a KL of ``TRUST``; 0 for statistics that do not vary."""
        mean = self._sum / self.count
        covariance = self._products / self.count - mean.outer(mean)
        size = len(mean) - len(self.wanted)
        fisher, response = covariance[:size, :size], covariance[:size, size:]
        variance = covariance.diagonal()[size:]
        second = self._products.diagonal()[size:] / self.count
        scale = torch.where(variance > CONSTANT * second, variance.rsqrt(), 0.0)
        response = response * scale
        directions = torch.linalg.solve(
            fisher + RIDGE * fisher.diagonal().mean() * eye(size), response
        )
        explained = response.T @ directions + softness * eye(len(scale))
        change: Tensor = directions @ torch.linalg.solve(explained, -scale * mean[size:])
        kl = change @ fisher @ change / 2
        return change * (TRUST / kl.clamp(min=TRUST)).sqrt()


def eye(size: int) -> Tensor:
    """The unit matrix in double precision."""
    return torch.eye(size, dtype=torch.float64)


def chains(
    sampler: Sampler, layers: LastLayers, seed: int, indices: Sequence[int]
) -> tuple[Samples, Tensor]:
    """The examples of a seed at the given indices, and the scores s of their chains, (B, size)."""
    scores: Tensor | float = 0.0
    with layers.watched():
        for state in sampler.walk(seed, indices):
            if state.law is not None:
                log_prob = state.law.log_prob(state.z, state.mask)
                scores = scores + layers.gradients(log_prob)
    assert isinstance(scores, Tensor)
    return Samples((state.z,), state.mask, state.sizes), scores


def moments(
    sampler: Sampler,
    statistics: Callable[[Samples], Tensor],
    wanted: Tensor,
    seed: int,
    batches: Iterable[Sequence[int]],
) -> Moments:
    """What samples of the model say of its statistics and of how they can be changed.

    Args:
        sampler: Draws from the reverse process.
        statistics: f of each example, (B, M).
        wanted: m, (M,).
        seed: Names the samples.
        batches: Indices of the samples, batch by batch.
    """
    layers = LastLayers(sampler.reverse)
    found = Moments(layers.size, wanted)
    for indices in batches:
        drawn, scores = chains(sampler, layers, seed, indices)
        found.add(scores.cpu(), statistics(drawn))
    return found
