"""Downloads from a server on this machine that misbehaves in every way that servers do."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from molfldd import download
from molfldd.download import Download, fetch
from molfldd.errors import MolflddError
from molfldd.molecules import zinc250k
from molfldd.molecules.domain import MoleculeData

CONTENT = b"smiles\n" + b"CCO\n" * 50_000
Answer = Callable[[BaseHTTPRequestHandler], None]


def all_of(content: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


whole = all_of(CONTENT)


other_content = all_of(b"other")


def dropped(handler: BaseHTTPRequestHandler) -> None:
    """Promises everything, sends half and hangs up."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[: len(CONTENT) // 2])
    handler.close_connection = True


def rest(handler: BaseHTTPRequestHandler) -> None:
    """From the byte on that is asked for."""
    start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start < len(CONTENT)
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(CONTENT) - start))
    handler.end_headers()
    handler.wfile.write(CONTENT[start:])


def missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(503)


@dataclasses.dataclass
class Server:
    """Answers each path as told, one answer after another and the last one for ever."""

    address: str
    answers: dict[str, list[Answer]]
    asked: list[str]

    def will(self, path: str, *answers: Answer) -> str:
        self.answers[f"/{path}"] = list(answers)
        return f"{self.address}/{path}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_WAITS", (0.0, 0.0))
    state = Server("", {}, [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            answers = state.answers[self.path]
            (answers.pop(0) if len(answers) > 1 else answers[0])(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.address = f"http://127.0.0.1:{http.server_port}"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wanted(*urls: str) -> Download:
    return Download("file.csv", hashlib.sha256(CONTENT).hexdigest(), urls, "give its path")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once(
    server: Server, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = wanted(server.will("a", whole))
    path = fetch(file)
    assert path.read_bytes() == CONTENT
    assert fetch(file) == path
    assert server.asked == ["/a"]
    assert files(cache) == [path]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("first", [missing, broken, dropped, other_content])
def test_the_mirror_is_used_when_the_first_address_fails(
    server: Server, cache: Path, first: Answer
) -> None:
    path = fetch(wanted(server.will("a", first), server.will("b", whole)))
    assert path.read_bytes() == CONTENT
    assert server.asked == ["/a", "/b"]
    assert files(cache) == [path]


@pytest.mark.parametrize(("first", "then"), [(broken, whole), (dropped, whole), (dropped, rest)])
def test_what_may_pass_is_tried_again(
    server: Server, cache: Path, first: Answer, then: Answer
) -> None:
    """A server that can resume has to send the rest alone; another sends all of it again."""
    assert fetch(wanted(server.will("a", first, then))).read_bytes() == CONTENT
    assert server.asked == ["/a", "/a"]


@pytest.mark.parametrize(
    ("answer", "reason", "times"),
    [
        (missing, "404 Client Error: Not Found", 1),
        (broken, "503 Server Error: Service Unavailable", 2),
        (dropped, "the connection broke off", 2),
        (other_content, "not the expected file, its SHA-256 differs", 1),
    ],
)
def test_failure_is_one_sentence_and_leaves_nothing(
    server: Server, cache: Path, answer: Answer, reason: str, times: int
) -> None:
    url = server.will("a", answer)
    with pytest.raises(MolflddError) as caught:
        fetch(wanted(url))
    assert str(caught.value) == f"cannot download file.csv ({url}: {reason}); give its path"
    assert server.asked == ["/a"] * times
    assert files(cache) == []


def test_no_server(server: Server, cache: Path) -> None:
    with pytest.raises(MolflddError, match="no connection"):
        fetch(wanted("http://127.0.0.1:9/a"))


def test_a_damaged_file_in_the_cache_is_replaced(server: Server, cache: Path) -> None:
    file = wanted(server.will("a", whole))
    fetch(file).write_bytes(b"damaged")
    assert fetch(file).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written(server: Server, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(MolflddError, match="MOLFLDD_CACHE"):
        fetch(wanted(server.will("a", whole)))


# --- ZINC250k as a user has it: the molecules and the rows of the test set, from a server


@pytest.fixture
def zinc(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a small file in place of each of the two, the first mirrors without."""
    for name, content in (
        ("ZINC250K", b'smiles,logP,qed\n"CC(C)O\n",1,0\n"C[NH2+]C\n",1,0\n"CCBr\n",1,0\n'),
        ("ZINC250K_TEST", b"[0, 2]"),
    ):
        urls = server.will(f"no-{name}", missing), server.will(name, all_of(content))
        file = dataclasses.replace(
            getattr(zinc250k, name), sha256=hashlib.sha256(content).hexdigest(), urls=urls
        )
        monkeypatch.setattr(zinc250k, name, file)
    return server


def test_zinc250k_is_downloaded_once_and_divided_as_published(zinc: Server) -> None:
    asked = [f"/{kind}{name}" for name in ("ZINC250K", "ZINC250K_TEST") for kind in ("no-", "")]
    for _ in range(2):
        train, test = MoleculeData("zinc250k").load()
        assert (train.smiles, test.smiles) == (["C[NH2+]C"], ["CC(C)O", "CCBr"])
        assert zinc.asked == asked


@pytest.mark.parametrize("answer", [missing, dropped, other_content])
def test_zinc250k_that_cannot_be_had_leaves_nothing(
    zinc: Server, cache: Path, answer: Answer
) -> None:
    zinc.will("ZINC250K", answer)
    with pytest.raises(MolflddError, match="cannot download 250k_rndm_zinc_drugs_clean_3"):
        MoleculeData("zinc250k").load()
    assert [path for path in files(cache) if path.suffix != ".lock"] == []
