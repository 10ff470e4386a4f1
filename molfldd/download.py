"""Files from the web: checked, resumed, taken from mirrors, and whole or not there."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from molfldd.errors import MolflddError
from molfldd.progress import arriving
from molfldd.storage import cache_directory, unwritable_cache

if TYPE_CHECKING:
    import requests

_WAITS = (0.0, 1.0, 4.0)
"""Seconds before each round over the addresses."""
_TIMEOUT = 30
_CHUNK = 2**16


@dataclass(frozen=True)
class Download:
    """A published file.

    Attributes:
        name: Of the file in the cache.
        sha256: Checksum of its content, hex.
        urls: Where it is, the preferred address first.
        otherwise: What to do where it cannot be downloaded, for the error message.
    """

    name: str
    sha256: str
    urls: tuple[str, ...]
    otherwise: str


def fetch(download: Download) -> Path:
    """Path of the file in the cache, downloaded if it is not yet there.

    An address that fails is tried again later, unless the file is not there or is another one; what
    broke off is resumed where the server can do that.

    Raises:
        MolflddError: if no address gives the file, or if the cache cannot be written; nothing
            is left in the cache then.
    """
    with TemporaryDirectory() as folder:
        return _fetch(download, Path(folder))


def _fetch(download: Download, parts: Path) -> Path:
    """See ``fetch``; what came before a connection broke off is kept in the folder ``parts``."""
    failures: dict[str, str] = {}
    addresses = list(download.urls)
    for wait in _WAITS:
        time.sleep(wait)
        for url in list(addresses):
            part = parts / str(download.urls.index(url))
            path, failure, is_final = _attempt(download, url, part)
            if path is not None:
                return path
            failures[url] = failure
            if is_final:
                addresses.remove(url)
        if not addresses:
            break
    reasons = "; ".join(f"{url}: {reason}" for url, reason in failures.items())
    raise MolflddError(f"cannot download {download.name} ({reasons}); {download.otherwise}")


def _attempt(download: Download, url: str, part: Path) -> tuple[Path | None, str, bool]:
    """The file, or why not and whether it is no use to try the address again."""
    import requests

    try:
        return _retrieve(download, url, part), "", False
    except requests.HTTPError as error:
        return None, str(error).partition(" for url")[0], 400 <= _status(error) < 500
    except requests.RequestException as error:
        return None, _explain(error), False
    except ValueError:
        return None, "not the expected file, its SHA-256 differs", True
    except OSError as error:
        raise unwritable_cache(cache_directory() / download.name, error) from error


def _status(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _explain(error: Exception) -> str:
    from requests.exceptions import ChunkedEncodingError, ConnectionError, Timeout

    if isinstance(error, Timeout):
        return "no answer in time"
    if isinstance(error, ChunkedEncodingError):
        return "the connection broke off"
    return "no connection" if isinstance(error, ConnectionError) else " ".join(str(error).split())


def _retrieve(download: Download, url: str, part: Path) -> Path:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    return Path(
        pooch.retrieve(
            url,
            known_hash=download.sha256,
            fname=download.name,
            path=cache_directory() / "downloads",
            downloader=partial(_go_on, part),
        )
    )


def _go_on(part: Path, url: str, output: str, _: object) -> None:
    """Download the rest of a file, of which ``part`` holds what has come so far, as pooch asks."""
    import requests

    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # so that a byte is one of the file
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        _append(response, part, done if resumed else 0)
    shutil.move(part, output)


def _append(response: requests.Response, part: Path, done: int) -> None:
    """Write what comes behind the first bytes of a file, with a progress bar."""
    total = done + int(response.headers.get("Content-Length", 0)) or None
    name = response.url.rpartition("/")[2]
    with arriving(name, total, done) as advance, part.open("ab") as file:
        file.truncate(done)
        for chunk in response.iter_content(_CHUNK):
            advance(file.write(chunk))
