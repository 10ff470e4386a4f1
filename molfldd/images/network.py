"""A compact patch transformer after DiT, with convolutions at full resolution around it.

Patches talk to each other by attention; what is inside a patch, down to the single pixel, also
goes around the transformer at full resolution, so patches can be large and the network fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from molfldd.core.attention import attention
from molfldd.core.blocks import Masks, Probs
from molfldd.errors import UsageError
from molfldd.nn.layers import (
    Modulation,
    ResidualLayer,
    TimeEmbedding,
    feed_forward,
    zero_linear,
)

PIXELS = "pixels"
"""Name of the only block."""


@dataclass(frozen=True)
class PatchTransformerConfig:
    """Size of the network.

    Attributes:
        patch: Height and width of a patch in pixels; it divides those of the images.
        layers: Number of transformer layers.
        width: Channels of a patch, divisible by heads.
        heads: Attention heads.
        local: Channels of a pixel at full resolution.
    """

    patch: int = 4
    layers: int = 4
    width: int = 128
    heads: int = 4
    local: int = 16

    def __post_init__(self) -> None:
        if min(self.patch, self.layers, self.width, self.heads, self.local) < 1:
            raise ValueError("patch, layers, width, heads and local must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")


class PatchLayer(ResidualLayer):
    """Attention of patches, then feed-forward; both conditioned on time."""

    def __init__(self, config: PatchTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_forward = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = Modulation(width, width, 2)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.forward_patch = feed_forward(width, 4)

    def outputs(self) -> list[nn.Module]:
        """See ``ResidualLayer``."""
        return [self.merge, self.forward_patch[-1]]

    def forward(self, patches: Tensor, condition: Tensor) -> Tensor:
        """Patches (B, N, width), updated; the condition is (B, width)."""
        (scale, shift, gate), (scale2, shift2, gate2) = self.modulate(condition)
        patches = patches + gate * self.attend(self.norm_attention(patches) * scale + shift)
        updated: Tensor = patches + gate2 * self.forward_patch(
            self.norm_forward(patches) * scale2 + shift2
        )
        return updated

    def attend(self, x: Tensor) -> Tensor:
        """Attention over all patches, (B, N, width)."""
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, -1)
        )
        merged: Tensor = self.merge(attention(q, k, v).transpose(1, 2).flatten(-2))
        return merged


class Patchify(nn.Conv2d):
    """A convolution whose stride is the kernel, (B, C, p H, p W) to (B, width, H, W).

    As a product of matrices: in bfloat16 on processors with AMX the convolution of oneDNN 3.12 can
    be wrong where it has a stride (pytorch/pytorch#169688, uxlfoundation/oneDNN#5494).
    """

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        patches = nn.functional.pixel_unshuffle(input, self.stride[0]).movedim(1, -1)
        return nn.functional.linear(patches, self.weight.flatten(1), self.bias).movedim(-1, 1)


class Unpatchify(nn.ConvTranspose2d):
    """The way back, (B, width, H, W) to (B, C, p H, p W); see ``Patchify``."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See the class."""
        patches = nn.functional.linear(input.movedim(1, -1), self.weight.flatten(1).T)
        pixels = nn.functional.pixel_shuffle(patches.movedim(-1, 1), self.stride[0])
        assert self.bias is not None
        return pixels + self.bias[:, None, None]


class PatchTransformer(nn.Module):
    """Pixels in, features of every pixel out; see the module.

    Args:
        config: Sizes.
        shape: Height and width of the images.
        inputs: Input channels of a pixel.
        outputs: Output channels of a pixel; the last layer starts at zero.

    Raises:
        UsageError: if the patch does not divide height and width.
    """

    def __init__(
        self,
        config: PatchTransformerConfig,
        shape: tuple[int, int],
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.shape = shape
        rows, columns = (side // config.patch for side in shape)
        if (rows * config.patch, columns * config.patch) != shape:
            raise UsageError(
                f"config key 'network.patch': {config.patch} does not divide images of "
                f"{shape[0]} x {shape[1]} pixels"
            )
        width, local = config.width, config.local
        self.time = TimeEmbedding(width)
        self.enter = nn.Sequential(nn.Conv2d(inputs[PIXELS], local, 3, padding=1), nn.GELU())
        self.patchify = Patchify(local, width, config.patch, config.patch)
        self.position = nn.Parameter(torch.randn(rows * columns, width))
        self.layers = nn.ModuleList(PatchLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.unpatchify = Unpatchify(width, local, config.patch, config.patch)
        self.refine = nn.Sequential(
            nn.Conv2d(2 * local, 2 * local, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * local, local, 3, padding=1),
            nn.GELU(),
        )
        self.leave = nn.Sequential(nn.LayerNorm(local), zero_linear(local, outputs[PIXELS]))

    @property
    def readouts(self) -> tuple[nn.Linear, ...]:
        """The last layer."""
        last = self.leave[-1]
        assert isinstance(last, nn.Linear)
        return (last,)

    def forward(self, values: Probs, mask: Masks, time: Tensor) -> dict[str, Tensor]:
        """See ``molfldd.core.network.NetworkFactory``; images have no padding, so no mask."""
        pixels = values[PIXELS]
        image = pixels.view(len(pixels), *self.shape, -1).permute(0, 3, 1, 2)
        pixels = self.enter(image)
        grid = self.patchify(pixels)
        patches = grid.flatten(2).transpose(1, 2) + self.position
        condition = nn.functional.silu(self.time(time))
        for layer in self.layers:
            patches = layer(patches, condition)
        grid = self.norm(patches).transpose(1, 2).view(grid.shape)
        refined = self.refine(torch.cat([pixels, self.unpatchify(grid)], 1))
        return {PIXELS: self.leave(refined.permute(0, 2, 3, 1).flatten(1, 2))}
