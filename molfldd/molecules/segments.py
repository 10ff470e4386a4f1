"""Reductions over segments of rows: rows ``ptr[s]`` to ``ptr[s + 1]`` are segment s.

torch-scatter's kernels do the work where it is installed, torch's own otherwise; both give the same
numbers to rounding. torch_geometric, which knows both, takes longer to import than torch itself and
is therefore imported only when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Which rows belong together.

    Attributes:
        ptr: First row of each segment and the end of the last, (S + 1,) int64.
        index: Segment of each row, (R,) int64.
    """

    ptr: Tensor
    index: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> Segments:
        """Segments of the given lengths (S,), one after another."""
        ptr = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        return cls(ptr, torch.arange(len(lengths), device=ptr.device).repeat_interleave(lengths))

    def sum(self, rows: Tensor) -> Tensor:
        """Sum of the rows (R, ...) of each segment, (S, ...).

        Without torch-scatter by scattering, which on wide rows takes a fraction of the time of
        torch's segment kernel.
        """
        import torch_geometric.typing
        from torch_geometric.utils import scatter, segment

        if torch_geometric.typing.WITH_TORCH_SCATTER:
            total: Tensor = segment(rows, self.ptr)
        else:
            total = scatter(rows, self.index, dim_size=len(self.ptr) - 1)
        return total

    def softmax(self, rows: Tensor) -> Tensor:
        """Rows (R, ...) with exponentials that sum to 1 over each segment, (R, ...)."""
        from torch_geometric.utils import softmax

        weights: Tensor = softmax(rows, ptr=self.ptr)
        return weights
