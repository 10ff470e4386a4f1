"""Checkpoints: what goes in comes out, everything else is refused in one sentence."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from molfldd.checkpoint import FORMAT_VERSION, load_state, read_checkpoint, write_checkpoint
from molfldd.errors import MolflddError


def same(one: Any, other: Any) -> bool:
    """Equal, with the same types of keys and numbers, tensors bit for bit; lists for tuples."""
    if isinstance(one, Tensor):
        return (
            isinstance(other, Tensor)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and torch.equal(one, other)
        )
    if isinstance(one, dict):
        keys = [(type(k), k) for k in one]
        return keys == [(type(k), k) for k in other] and all(same(v, other[k]) for k, v in
                                                             one.items())  # fmt: skip
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def round_trip(path: Path, tree: Any) -> Any:
    write_checkpoint(path, {}, tree)
    return read_checkpoint(path)[1]


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from(
        [
            torch.tensor(3),
            torch.tensor([1.5, float("inf")]),
            torch.zeros(0, 2),
            torch.tensor([[True, False]]),
            torch.arange(6.0, dtype=torch.float64).view(2, 3).T,
            torch.ones(2, dtype=torch.bfloat16),
        ]
    ),
)
keys = st.one_of(st.integers(-3, 12), st.text(max_size=3), st.sampled_from(["a", "a/b", "1", "0"]))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


@given(tree=trees)
def test_round_trip_of_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    assert same(tree, round_trip(path, tree))


def test_keys_that_look_alike_stay_apart(tmp_path: Path) -> None:
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    tree = {"a": {"b": one}, "a/b": two, 1: three, "1": one}
    assert same(tree, round_trip(tmp_path / "c.safetensors", tree))


def test_optimizer_state_has_integer_keys(tmp_path: Path) -> None:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    found = round_trip(tmp_path / "c.safetensors", optimizer.state_dict())
    assert set(found["state"]) == {0, 1}
    fresh = torch.optim.AdamW(nn.Linear(3, 2).parameters())
    fresh.load_state_dict(found)
    for number, state in optimizer.state_dict()["state"].items():
        assert same(dict(state), dict(fresh.state_dict()["state"][number]))


def test_shared_and_sliced_tensors_are_stored_by_value(tmp_path: Path) -> None:
    base = torch.arange(10.0)
    tree = {"base": base, "again": base, "slice": base[2:8:2], "wide": base[:1].expand(4)}
    found = round_trip(tmp_path / "c.safetensors", tree)
    assert same(tree, found)


def test_header_comes_back(tmp_path: Path) -> None:
    header = {"config": {"steps": 10, "name": "Ünïcode"}, "sizes": [0, 1], "metrics": {"fcd": 0.5}}
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, header, {})
    assert read_checkpoint(path) == (header, {})


def test_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.safetensors"
    write_checkpoint(path, {}, {"x": torch.ones(1)})
    assert path.is_file()


# What is no checkpoint ------------------------------------------------------------------------


def checkpoint_bytes(tmp_path: Path) -> bytes:
    path = tmp_path / "whole.safetensors"
    write_checkpoint(path, {"name": "x"}, {"weights": torch.arange(1000.0)})
    return path.read_bytes()


def refused(path: Path) -> str:
    with pytest.raises(MolflddError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    content = checkpoint_bytes(tmp_path)
    path = tmp_path / "c.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated" in refused(path)


@pytest.mark.parametrize(
    "content",
    [b"not a checkpoint, just text\n" * 20, b"x", pickle.dumps({"weights": list(range(99))})],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    assert "not safetensors" in refused(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_other_safetensors_files_are_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"weights": torch.ones(2)}, path, metadata)
    assert "not one of molfldd" in refused(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        json.dumps({"version": "x", "header": {}, "tree": {"value": 1}}),
        json.dumps({"version": 1, "tree": {"value": 1}}),
        json.dumps({"version": 1, "header": {}, "tree": {"tensor": "missing"}}),
        json.dumps({"version": 1, "header": {}, "tree": 5}),
        json.dumps({"version": 1, "header": {}, "tree": {"list": [7]}}),
        json.dumps({"version": 1, "header": {}, "tree": {}}),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"weights": torch.ones(2)}, path, {"molfldd": text})
    assert "damaged header" in refused(path)


def test_newer_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    content = {"version": FORMAT_VERSION + 1, "something": "else"}
    save_file({"weights": torch.ones(2)}, path, {"molfldd": json.dumps(content)})
    message = refused(path)
    assert str(FORMAT_VERSION + 1) in message
    assert "upgrade" in message


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "no checkpoint" in refused(tmp_path / "none.safetensors")
    assert "no checkpoint" in refused(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MolflddError, match="do not fit"):
        load_state(nn.Linear(2, 3), nn.Linear(3, 2).state_dict(), tmp_path / "c.safetensors")


# Failing to write -----------------------------------------------------------------------------


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, {"run": 1}, {"x": torch.ones(3)})

    def full(tensors: Any, file: Path, metadata: Any) -> None:
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("molfldd.checkpoint.save_file", full)
    with pytest.raises(MolflddError, match="No space left"):
        write_checkpoint(path, {"run": 2}, {"x": torch.zeros(3)})
    header, tree = read_checkpoint(path)
    assert header == {"run": 1}
    assert torch.equal(tree["x"], torch.ones(3))
    assert os.listdir(tmp_path) == ["c.safetensors"]


def test_failed_replace_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, {"run": 1}, {})

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(MolflddError, match="Permission denied"):
        write_checkpoint(path, {"run": 2}, {})
    assert read_checkpoint(path)[0] == {"run": 1}
    assert os.listdir(tmp_path) == ["c.safetensors"]


def test_writing_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MolflddError, match="cannot write"):
        write_checkpoint(tmp_path / "file" / "c.safetensors", {}, {})


def test_a_good_write_leaves_one_file(tmp_path: Path) -> None:
    for run in range(3):
        write_checkpoint(tmp_path / "c.safetensors", {"run": run}, {"x": torch.ones(3)})
    assert os.listdir(tmp_path) == ["c.safetensors"]
    assert read_checkpoint(tmp_path / "c.safetensors")[0] == {"run": 2}
