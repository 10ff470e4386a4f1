"""The layout: the core stands alone, and data flows one way."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import molfldd

PACKAGE = Path(molfldd.__file__).parent
ALLOWED_IN_CORE = {"torch", "lightning_fabric", "molfldd.core"} | sys.stdlib_module_names
DOMAINS = ("images", "molecules", "text", "toy")


def modules(folder: str) -> list[Path]:
    found = sorted((PACKAGE / folder).rglob("*.py"))
    assert found
    return found


def imports(path: Path) -> set[str]:
    """Every module a file imports, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def is_within(module: str, parts: set[str]) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in parts)


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", modules("core"), ids=name)
def test_core_imports_torch_the_engine_and_the_standard_library_only(path: Path) -> None:
    outside = {
        module
        for module in imports(path)
        if module != "molfldd" and not is_within(module, set(ALLOWED_IN_CORE))
    }
    assert not outside


def test_imports_are_found_wherever_they_hide(tmp_path: Path) -> None:
    """The check above can fail."""
    path = tmp_path / "module.py"
    path.write_text("import os\ndef f():\n    from molfldd.toy import network\n    import rdkit\n")
    assert {"molfldd.toy", "rdkit"} <= imports(path)
    assert not is_within("torch_geometric.data", set(ALLOWED_IN_CORE))
    assert not is_within("molfldd.toy", set(ALLOWED_IN_CORE))


@pytest.mark.parametrize("path", modules("nn"), ids=name)
def test_shared_layers_know_no_domain(path: Path) -> None:
    assert not any(is_within(m, {f"molfldd.{d}" for d in DOMAINS}) for m in imports(path))


@pytest.mark.parametrize("path", [path for domain in DOMAINS for path in modules(domain)], ids=name)
def test_domains_know_neither_each_other_nor_the_command_line(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0]
    foreign = {f"molfldd.{d}" for d in (*DOMAINS, "cli") if d != own}
    assert not any(is_within(module, foreign) for module in imports(path))


def test_every_module_says_what_it_is() -> None:
    silent = [
        name(path)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent
