"""A transformer encoder over tokens, after LLaMA: rotary positions, RMSNorm, gated feed-forward.

Attention goes both ways. Step and length of the text condition every layer (adaLN) and stand
before the first token as an element of their own, so that rotary positions, which only tell
distances, also tell how far a token is from the beginning and thus from the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, silu

from molfldd.core.attention import attention
from molfldd.core.blocks import Masks, Probs
from molfldd.nn.layers import (
    Modulation,
    ResidualLayer,
    TimeEmbedding,
    small_embedding,
    zero_linear,
)

TOKENS = "tokens"
"""Name of the only block."""


@dataclass(frozen=True)
class TransformerConfig:
    """Size of the network.

    Attributes:
        layers: Number of transformer layers.
        width: Channels of a token.
        heads: Attention heads; ``width / heads`` must be an even number.
    """

    layers: int = 6
    width: int = 512
    heads: int = 8

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.heads) < 1:
            raise ValueError("layers, width and heads must be at least 1")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not divisible by 2 * heads {2 * self.heads}")


class TokenEmbedding(nn.Module):
    """A vector per state; distributions over states are averaged.

    Args:
        states: S.
        width: Channels.
    """

    def __init__(self, states: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(states, width) / width**0.5)

    def forward(self, values: Tensor) -> Tensor:
        """(B, n, S) to (B, n, width).

        One-hot states without a gradient, the usual case, are looked up instead of multiplied:
        the product costs as much as a large part of the network when there are many states.
        """
        if not values.requires_grad:
            largest, codes = values.max(-1)
            if bool((largest == 1).all()):
                return embedding(codes, self.weight)
        return values @ self.weight


class GatedFeedForward(nn.Module):
    """SwiGLU with the hidden width of LLaMA, 8/3 of the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 8 * width // 3
        self.enter = nn.Linear(width, 2 * hidden)
        self.leave = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., width)."""
        gate, value = self.enter(x).chunk(2, -1)
        y: Tensor = self.leave(silu(gate) * value)
        return y


def rotation(positions: int, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles, (positions, channels / 2) each."""
    rates = 10_000.0 ** -(torch.arange(0, channels, 2, device=device) / channels)
    angles = torch.outer(torch.arange(positions, device=device).float(), rates)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn pairs of channels by the angles of their position; (B, heads, n, C) to the same."""
    first, second = x.chunk(2, -1)
    turned: Tensor = torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)
    return turned.to(x.dtype)


class TransformerLayer(ResidualLayer):
    """Attention and feed-forward, each normalized and modulated before and gated after."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.RMSNorm(config.width, elementwise_affine=False)
        self.modulate = Modulation(config.width, config.width, 2)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.merge = nn.Linear(config.width, config.width)
        self.feed_forward = GatedFeedForward(config.width)

    def outputs(self) -> list[nn.Module]:
        """See ``ResidualLayer``."""
        return [self.merge, self.feed_forward.leave]

    def forward(
        self, x: Tensor, condition: Tensor, exists: Tensor, angles: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Elements (B, n, width), updated.

        Args:
            x: Features of elements.
            condition: (B, width).
            exists: True for elements to attend to, (B, 1, 1, n).
            angles: See ``rotation``.
        """
        (scale, shift, gate), (scale2, shift2, gate2) = self.modulate(condition)
        x = x + gate * self.attend(self.norm(x) * scale + shift, exists, angles)
        updated: Tensor = x + gate2 * self.feed_forward(self.norm(x) * scale2 + shift2)
        return updated

    def attend(self, x: Tensor, exists: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Attention of every element to all that exist."""
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, -1)
        )
        y = attention(rotate(q, *angles), rotate(k, *angles), v, exists)
        merged: Tensor = self.merge(y.transpose(1, 2).flatten(-2))
        return merged


class Transformer(nn.Module):
    """Tokens in, features of tokens out; see the module.

    Args:
        config: Size of the network.
        longest: Tokens of the longest text.
        inputs: States of a token.
        outputs: Channels wanted per token; the last layer starts at zero.
    """

    def __init__(
        self,
        config: TransformerConfig,
        longest: int,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.head_width = config.width // config.heads
        self.embed_tokens = TokenEmbedding(inputs[TOKENS], config.width)
        self.embed_time = TimeEmbedding(config.width)
        self.embed_length = small_embedding(longest + 1, config.width)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.read = zero_linear(config.width, outputs[TOKENS])

    @property
    def readouts(self) -> tuple[nn.Linear, ...]:
        """The last layer."""
        return (self.read,)

    def forward(self, values: Probs, mask: Masks, time: Tensor) -> dict[str, Tensor]:
        """Features of every token; see ``molfldd.core.network.NetworkFactory``."""
        exists = mask[TOKENS]
        condition = self.embed_time(time) + self.embed_length(exists.sum(-1))
        x = torch.cat([condition[:, None], self.embed_tokens(values[TOKENS])], 1)
        attended = torch.nn.functional.pad(exists, (1, 0), value=True)[:, None, None]
        angles = rotation(x.shape[1], self.head_width, x.device)
        condition = silu(condition)
        for layer in self.layers:
            x = layer(x, condition, attended, angles)
        return {TOKENS: self.read(self.norm(x[:, 1:]))}
