"""What the core asks of a network; both processes use the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from molfldd.core.blocks import Masks, Probs


class NetworkFactory(Protocol):
    """Builds a network of a domain with the channels that a process needs."""

    def __call__(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> nn.Module:
        """A module called as ``module(values, mask, time)``.

        The module maps values (B, n, ``inputs[name]``), masks (B, n) and the time (B,) to features
        (B, n, ``outputs[name]``) of every block. The time is t / T, in [0, 1]; of several walks
        each has times of its own, see ``Clock.reading``. Its last layers start at zero, so that
        training starts from the process without a network. ``molfldd.core.calibration`` asks for
        these layers as ``module.readouts``, linear ones that keep the examples apart, (B, ..., C).
        """


def apply(network: nn.Module, values: Probs, mask: Masks, time: Tensor) -> dict[str, Tensor]:
    """The network's features in float32, whatever precision it computed in."""
    return {name: y.float() for name, y in network(values, mask, time).items()}
