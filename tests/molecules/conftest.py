from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def chains() -> list[str]:
    """Molecules of every size up to 42 atoms, each once."""
    return ["C" * n + tail for n in range(1, 40) for tail in ("", "O", "N", "C#N", "C(=O)[O-]")]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
