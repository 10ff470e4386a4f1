import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from molfldd.cli.main import run

NAMES = ["Anna", "Ben", "Carla", "Dr. O'Neil"]
VERBS = ["found", "lost", "didn't want"]
THINGS = ["a red ball", "the old boat", "five kites", "some café"]
ENDS = ["It rained.", "Everyone laughed!", "Was it late?"]

Command = Callable[..., tuple[int, str, str]]


def make_stories() -> list[str]:
    """All 144 two-sentence stories of a small grammar."""
    parts = itertools.product(NAMES, VERBS, THINGS, ENDS)
    return [f"{name} {verb} {thing}. {end}" for name, verb, thing, end in parts]


@pytest.fixture(scope="session")
def stories() -> list[str]:
    return make_stories()


@pytest.fixture(scope="session")
def stories_file(stories: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "stories.txt"
    path.write_text("".join(f"{story}\n" for story in stories), encoding="utf-8")
    return path


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOLFLDD_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MOLFLDD_JUDGE", raising=False)
        patch.delenv("MOLFLDD_ENCODER", raising=False)
        yield


@pytest.fixture
def molfldd(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The program, run in this process: exit code, stdout, stderr on one line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["molfldd", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            run()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return int(caught.value.code or 0), out, " ".join(err.split())

    return call
