"""Forward processes: fixed (conventional diffusion) and learned (FLDD)."""

from molfldd.core.forward.base import ForwardProcess, Transition
from molfldd.core.forward.fixed import FixedForward
from molfldd.core.forward.marginals import FreeForward, PinnedForward
from molfldd.core.forward.masking import MaskingForward, MixedForward

__all__ = [
    "FixedForward",
    "ForwardProcess",
    "FreeForward",
    "MaskingForward",
    "MixedForward",
    "PinnedForward",
    "Transition",
]
