"""What the core asks of a network; both processes use the same kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn

from molfldd.core.blocks import Masks, Probs


class NetworkFactory(Protocol):
    """Builds a network of a domain with the channels that a process needs."""

    def __call__(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> nn.Module:
        """A module called as ``module(values, mask, time)``.

        The module maps values (B, n, ``inputs[name]``), masks (B, n) and the time (B,) to features
        (B, n, ``outputs[name]``) of every block. Values where the mask is False are arbitrary, and
        must not reach other elements. The reverse network is told the time t / T, in (0, 1] (of
        several walks each has times of its own, see ``Clock.reading``); the forward network, which
        reads x, is always told 0. The last layers start at zero, so that training starts from the
        process without a network. ``Phase.only_last`` and ``molfldd.core.calibration`` ask for
        these layers as ``module.readouts``: linear ones with a bias, each used once, that keep the
        examples apart, (B, ..., C).
        """


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside, the module is in evaluation mode; after it, each of its parts is as it was."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def apply(network: nn.Module, values: Probs, mask: Masks, time: Tensor) -> dict[str, Tensor]:
    """The network's features in float32, whatever precision it computed in."""
    return {name: y.float() for name, y in network(values, mask, time).items()}


def compile_layers(module: nn.Module) -> None:
    """Compile every layer in a list of layers (``nn.ModuleList``) for batches of any size.

    Layers of one kind share what is compiled. It happens when they are first called; copies of the
    module are not compiled.
    """
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            for layer in part:
                layer.compile(dynamic=True)
