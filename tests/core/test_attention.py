"""Attention written out and by torch's kernel."""

import pytest
import torch

from molfldd.core.attention import attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_is_the_mean_of_values_weighed_by_likeness(dtype: torch.dtype) -> None:
    """In single precision by the kernel, in others written out; with and without a mask."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 5, 4, generator=generator).to(dtype) for _ in range(3))
    padding = torch.arange(5) < torch.tensor([5, 2, 3])[:, None, None, None]
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    for seen in (None, padding, causal):
        weight = torch.exp(q @ k.transpose(-1, -2) / 2)
        if seen is not None:
            weight = weight * seen
        expected = (weight / weight.sum(-1, keepdim=True)) @ v
        torch.testing.assert_close(attention(q, k, v, seen), expected)
