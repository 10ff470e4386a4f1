"""What all tests share: one thread, and property tests that draw the same examples every time."""

import sys
from pathlib import Path

import torch
from hypothesis import settings

torch.set_num_threads(1)

settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")

for shared in ("core", "cli"):  # for ``tiny`` and ``program``, which several tests share
    sys.path.append(str(Path(__file__).parent / shared))
