"""Building blocks that the networks of several domains share."""
