"""What may become of a masked element, where both processes only mask and unmask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from molfldd.core.law import NEVER


def reveal_logit(gate: Tensor, index: Tensor) -> Tensor:
    """Logit of the probability to reveal a masked element, from its gate and its step's number.

    The probability is sigmoid(gate - log(s)): 1/t, the pace of uniform masking, for a gate of 0,
    and exactly 1 at t = 1.
    """
    return gate - (index - 1).float().log().clamp(min=NEVER)


def log_probs_from_mask(features: Tensor, index: Tensor) -> Tensor:
    """log v of a masked element: revealed as each of K values, or still masked.

    Args:
        features: Logits of the values, then the gate, (..., K + 1).
        index: Number of the step, broadcast against (...).

    Returns:
        (..., K + 1) nats.
    """
    reveal = reveal_logit(features[..., -1:], index)
    values = torch.log_softmax(features[..., :-1], -1)
    return torch.cat([values + logsigmoid(reveal), logsigmoid(-reveal)], -1)
