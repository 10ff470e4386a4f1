"""Forward processes: fixed (conventional diffusion) and learned (FLDD)."""

from molfldd.core.forward.base import ForwardProcess
from molfldd.core.forward.fixed import FixedForward
from molfldd.core.forward.marginals import FreeForward, PinnedForward
from molfldd.core.forward.masking import MaskingForward, MixedForward, UnpacedMaskingForward
from molfldd.core.forward.transitions import MaskingTransition, Transition

__all__ = [
    "FixedForward",
    "ForwardProcess",
    "FreeForward",
    "MaskingForward",
    "MaskingTransition",
    "MixedForward",
    "PinnedForward",
    "Transition",
    "UnpacedMaskingForward",
]
