"""molfldd: Forward-Learned Discrete Diffusion, whole molecules in about ten parallel steps.

>>> import molfldd
>>> molecules = molfldd.load_pretrained("qm9").sample(8, steps=10, seed=0)
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from molfldd.errors import MolflddError, UsageError

if TYPE_CHECKING:
    from molfldd.model import Model

try:
    __version__ = version("molfldd")
except PackageNotFoundError:  # pragma: no cover - a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["MolflddError", "UsageError", "__version__", "load_pretrained"]


def load_pretrained(name: str = "qm9") -> Model:
    """A trained model that comes with the package, or one of your own.

    Args:
        name: Name of an embedded model, or path of a checkpoint.

    Raises:
        UsageError: if there is no such model.
        MolflddError: if the file cannot be read.
    """
    from molfldd.model import load_model, pretrained_path

    return load_model(pretrained_path(name))
