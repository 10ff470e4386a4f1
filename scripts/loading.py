"""Models of molecules by name."""

from __future__ import annotations

from molfldd.errors import UsageError
from molfldd.model import Model, load_model, pretrained_path
from molfldd.molecules.domain import Molecules


def molecule_model(name: str) -> tuple[Model, Molecules]:
    """An embedded model or a checkpoint, and its domain.

    Raises:
        UsageError: if there is none, or it is one of something else.
    """
    model = load_model(pretrained_path(name))
    if not isinstance(model.domain, Molecules):
        raise UsageError(f"{name} is a model of {model.domain.plural}, not of molecules")
    return model, model.domain
