"""Shared layers."""

import torch

from molfldd.nn.layers import attention


def test_attention_is_that_of_torch_with_and_without_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 5, 4, generator=generator) for _ in range(3))
    exists = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    for mask in (None, exists[:, None, None]):
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
        torch.testing.assert_close(attention(q, k, v, mask), expected)
