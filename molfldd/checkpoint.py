"""Checkpoints: one safetensors file whose header holds everything else as JSON. No pickle.

Numbers are tensors of the file; the structure they hang in (nested mappings and lists), the
config, vocabulary, sizes and metrics are JSON in the header, so a checkpoint is one file, is
written atomically, and reading one can run no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from molfldd.errors import MolflddError
from molfldd.storage import atomic_path

FORMAT_VERSION = 1
"""Version of the layout; a reader refuses newer ones."""

_KEY = "molfldd"


def write_checkpoint(path: Path, header: Mapping[str, Any], tree: Any) -> None:
    """Write a checkpoint so that at every moment the old or the new file is whole.

    Args:
        path: The file.
        header: Plain JSON data.
        tree: Nested mappings and lists of tensors, numbers, strings and None.

    Raises:
        MolflddError: if the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _dismantle(tree, "", tensors)
    content = {"version": FORMAT_VERSION, "header": dict(header), "tree": skeleton}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            save_file(tensors, partial, {_KEY: json.dumps(content)})
    except (OSError, SafetensorError) as error:
        raise MolflddError(f"cannot write the checkpoint {path}: {error}") from error


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Any]:
    """Header and tree of a checkpoint, tensors on the CPU.

    Raises:
        MolflddError: if the file is missing, truncated, foreign, or of a newer version.
    """
    if not path.is_file():
        raise MolflddError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MolflddError(
            f"{path} is not a readable checkpoint (truncated, or not safetensors): {error}"
        ) from error
    if text is None:
        raise MolflddError(f"{path} is a safetensors file, but not one of molfldd")
    return _open(path, text, tensors)


def _open(path: Path, text: str, tensors: dict[str, Tensor]) -> tuple[dict[str, Any], Any]:
    try:
        content = json.loads(text)
        version = int(content["version"])
        if version > FORMAT_VERSION:
            raise MolflddError(
                f"{path} has checkpoint format {version}, this molfldd reads up to "
                f"{FORMAT_VERSION}; upgrade molfldd"
            )
        return content["header"], _assemble(content["tree"], tensors)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MolflddError(f"{path} has a damaged header: {error!r}") from error


def _dismantle(node: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        while where in tensors:  # keys such as 1 and "1", or "a/b" and "b" below "a"
            where += "'"
        tensors[where] = node.detach().cpu().contiguous().clone()
        return {"tensor": where}
    if isinstance(node, Mapping):
        return {"map": [[k, _dismantle(v, f"{where}/{k}", tensors)] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        return {"list": [_dismantle(v, f"{where}/{i}", tensors) for i, v in enumerate(node)]}
    return {"value": node}


def _assemble(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    ((kind, content),) = skeleton.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "map":
        return {k: _assemble(v, tensors) for k, v in content}
    if kind == "list":
        return [_assemble(v, tensors) for v in content]
    return content


def load_state(module: torch.nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights; raises ``MolflddError`` naming the file if they do not fit the module."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise MolflddError(
            f"the weights in {path} do not fit their own config, perhaps because another version "
            f"of molfldd wrote them; use that version, or train again: {reason}"
        ) from error
