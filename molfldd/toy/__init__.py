"""A mixture of two Gaussians on a grid: the toy problem of Figure 1."""
