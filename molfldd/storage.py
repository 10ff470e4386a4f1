"""Files that are whole or not there, and the place for caches."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from molfldd.errors import MolflddError, UsageError


def cache_directory() -> Path:
    """Where parsed data and statistics are kept: MOLFLDD_CACHE, or the user's cache folder."""
    return Path(os.environ.get("MOLFLDD_CACHE") or platformdirs.user_cache_dir("molfldd"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Path of a temporary file beside ``path`` that takes its place if the block succeeds.

    The temporary file is removed if the block fails, and what was at ``path`` stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path, suffixes: Collection[str]) -> None:
    """Raise ``UsageError`` if a file of one of the suffixes could not be written; writes nothing.

    For a command to call before it spends time on what is to be written.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            f"cannot write {path}: the suffix {path.suffix!r} is none of {' '.join(suffixes)}"
        )
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a directory; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no directory {path.parent}; create it")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission to write into {path.parent}")


def unwritable_cache(path: Path, error: OSError) -> MolflddError:
    """What to say of a file of the cache that cannot be written."""
    return MolflddError(
        f"cannot write the cache {path} ({error.strerror}); set MOLFLDD_CACHE to a directory "
        "that can be written and has room"
    )


@contextmanager
def cache_entry(path: Path) -> Iterator[Path]:
    """``atomic_path`` of a file of the cache, whose folder is made.

    Raises:
        MolflddError: if the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        raise unwritable_cache(path, error) from error


def write_cache(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as one ``.npz`` file without pickles; raises as ``cache_entry`` does."""
    with cache_entry(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_cache(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` file; raises ``MolflddError`` if it is damaged or not there."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise MolflddError(f"{path} is damaged ({error}) and must be built again") from error
