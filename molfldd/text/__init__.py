"""Short texts: stories as sequences of tokens."""
