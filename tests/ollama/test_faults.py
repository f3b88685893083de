"""Everything that can go wrong: each time a message that says what and what next, and nothing half-made is left."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from advisor.errors import AdvisorError, DownloadFailed, Interrupted, NoBackend, RuntimeFailed, UsageError
from advisor.running.client import Client, joined
from advisor.running.demo import collect
from backends.base import Endpoint, Model
from backends.ollama import Ollama, address
from backends.ollama.address import given
from backends.ollama.api import Api
from tests.fakes import ollama as fake
from tests.fakes import ollama_files as files
from tests.launch.conftest import wait_for
from tests.ollama.conftest import TAG, pair, planned, tagged, written

QUESTION = [{"role": "user", "content": "What is a drafter?"}]
NAME = "advisor-gemma4-26b-qat-mtp"


@pytest.fixture
def backend() -> Ollama:
    return Ollama()


def failing(kind: type[AdvisorError], words: str, do: Callable[[], object], *, hint: str = "") -> AdvisorError:
    with pytest.raises(kind, match=words) as caught:
        do()
    error = caught.value
    assert error.hint or error.command
    assert hint in f"{error.hint} {error.command}"
    assert "Traceback" not in error.message and len(error.message) < 300
    return error


def ours(ollama: fake.Ollama) -> list[str]:
    return sorted(name for name in ollama.library.models if name.startswith("advisor-"))


def test_a_server_that_is_down(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    plan = planned(backend, tagged(tmp_path))
    ollama.stop()
    assert not backend.detect().available
    failing(RuntimeFailed, "does not answer", lambda: backend.start(plan), hint="ollama serve")
    endpoint = Endpoint(base_url=f"{ollama.url}/v1", model="x", backend="ollama", pid=0, name="x")
    failing(RuntimeFailed, "does not answer", lambda: backend.stats(endpoint))
    assert backend.gone(endpoint) and "does not answer" in backend.cause(endpoint).message
    backend.stop(endpoint)  # what has gone needs no stopping


def test_a_server_that_stops_in_mid_pull(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.library.pull_dies_at = 2 << 20
    plan = planned(backend, tagged(tmp_path))
    failing(DownloadFailed, "stopped while it pulled", lambda: backend.prepare(plan, silent), hint="goes on where")
    assert ollama.library.models == {}
    ollama.library.pull_dies_at = None
    while address.version(given()) is not None:
        time.sleep(0.02)
    seen: list[int] = []
    with fake.serve(ollama, port=int(ollama.url.rpartition(":")[2])):
        backend.prepare(plan, lambda what, done, _: seen.append(done) if "layer" in what else None)
    assert seen[0] >= (2 << 20) - ollama.library.piece, "it went on where it had stopped"
    assert f"{NAME}:latest" in ollama.library.models


def test_a_pull_that_is_cancelled(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    def stop(_what: str, done: int, _size: int | None) -> None:
        if done > 1 << 20:
            raise Interrupted("interrupted")

    ollama.library.pause_s = 0.03
    with pytest.raises(Interrupted):
        backend.prepare(planned(backend, tagged(tmp_path)), stop)
    time.sleep(0.2)
    ollama.library.pause_s = 0
    assert ollama.library.models == {} and sum(ollama.library.partial.values()) > 1 << 20
    backend.prepare(planned(backend, tagged(tmp_path)), silent)
    assert f"{NAME}:latest" in ollama.library.models


@pytest.mark.parametrize("spoil", ["ends_at", "cut_line_at"])
def test_a_stream_that_ends_in_the_middle(backend: Ollama, ollama: fake.Ollama, tmp_path: Path, spoil: str) -> None:
    with started(backend, tagged(tmp_path)) as (_, client):
        setattr(ollama, spoil, 5)
        said: list[str] = []
        words = "does not answer" if spoil == "ends_at" else "does not answer|not Ollama's"
        failing(RuntimeFailed, words, lambda: collect(client.chat(QUESTION), lambda piece: said.append(piece.text)))
        assert len(said) == 5, "what had come was shown"


def test_a_broken_line_inside_a_stream(backend: Ollama, ollama: fake.Ollama, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    with started(backend, tagged(tmp_path)) as (_, client):
        monkeypatch.setattr(fake.Handler, "_line", lambda self, _document: self._chunk('{"model":"toy","created\n'))
        failing(RuntimeFailed, "not Ollama's", lambda: collect(client.chat(QUESTION)), hint="try again")


@pytest.mark.parametrize("raw", [True, False])
def test_a_child_that_dies_in_mid_stream(backend: Ollama, ollama: fake.Ollama, tmp_path: Path, raw: bool) -> None:
    with started(backend, tagged(tmp_path)) as (_, client):
        ollama.children.dies_at = 4

        def ask() -> object:
            return collect(client.complete("Once upon a time") if raw else client.chat(QUESTION))

        failing(RuntimeFailed, "llama-server died while it answered", ask, hint="ask again")
        assert ask(), "the next request starts a new one"


def test_a_child_that_dies_over_the_openai_face(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """There the server says nothing at all; that the stream has no end is noticed all the same."""
    with started(backend, tagged(tmp_path)) as (endpoint, _):
        ollama.children.dies_at = 4
        with Client(endpoint.base_url, endpoint.model, cause=lambda: backend.cause(endpoint)) as client:
            failing(RuntimeFailed, "broke off the answer", lambda: collect(client.chat(QUESTION)))


def test_a_token_that_repeats_without_end(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    with started(backend, tagged(tmp_path)) as (_, client):
        question = [{"role": "user", "content": "Say it again and again"}]
        failing(RuntimeFailed, "ended in the middle", lambda: collect(client.chat(question)), hint="more than 30 times")


NEWER = "412: \n\nThe model you are attempting to pull requires a newer version of Ollama."
REFUSALS = {
    "file does not exist": (DownloadFailed, "library has no", "advisor models"),
    NEWER: (NoBackend, "needs a newer Ollama", "update"),
    "412: this model requires macOS": (NoBackend, "macOS only", "--quant"),
    'Get "https://r/v2": dial tcp: lookup r: no such host': (DownloadFailed, "cannot reach its library", "network"),
    "digest mismatch, file must be downloaded again": (DownloadFailed, "damaged", "repeat"),
    "something unheard of": (DownloadFailed, "cannot reach its library.*something unheard of", "network"),
}


@pytest.mark.parametrize("text", REFUSALS)
def test_a_pull_that_is_refused(backend: Ollama, ollama: fake.Ollama, tmp_path: Path, text: str) -> None:
    kind, words, hint = REFUSALS[text]
    ollama.library.refusals[TAG] = text
    failing(kind, words, lambda: backend.start(planned(backend, tagged(tmp_path))), hint=hint)
    assert ollama.library.models == {}


@pytest.mark.parametrize("room", [1 << 20, 3 << 20])
def test_a_full_disk(backend: Ollama, ollama: fake.Ollama, tmp_path: Path, room: int) -> None:
    """Where the tag is pulled, where the drafter is sent, where a file's copy is made: never a model."""
    ollama.library.room = room
    failing(DownloadFailed, "disk .* is full", lambda: backend.start(planned(backend, tagged(tmp_path))), hint="ollama")
    failing(DownloadFailed, "disk .* is full", lambda: backend.start(planned(backend, pair(tmp_path))), hint="ollama")
    assert ollama.library.models == {}


def test_a_full_disk_for_the_drafter(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    backend.prepare(planned(backend, tagged(tmp_path, drafter=None, draft_tokens=0)), silent)
    ollama.library.room = 1 << 10
    failing(DownloadFailed, "is full", lambda: backend.start(planned(backend, tagged(tmp_path))))
    assert ours(ollama) == ["advisor-gemma4-26b-qat:latest"]


def test_a_file_that_is_not_what_its_name_says(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """A blob of a cache is named by its digest; where its bytes were changed, the server notices."""
    cache = tmp_path / "blobs"
    cache.mkdir()
    named = cache / ("0" * 64)
    named.write_bytes(files.content(files.DRAFTER))
    plan = planned(backend, tagged(tmp_path, drafter=named))
    failing(DownloadFailed, "digest does not match", lambda: backend.start(plan))
    assert ours(ollama) == []


@pytest.mark.parametrize(
    ("drafter", "words"), [(files.WRONG, "made for a width of 96.*192"), (files.TARGET, "is no drafter")]
)
def test_a_wrong_drafter_is_found_before_anything_is_made(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, drafter: str, words: str
) -> None:
    plan = planned(backend, tagged(tmp_path, drafter=written(tmp_path, drafter)))
    failing(RuntimeFailed, words, lambda: backend.start(plan), hint="drafter of this model")
    assert ours(ollama) == [] and ollama.asked("POST /api/create") == 0


@pytest.mark.parametrize(
    ("drafter", "words"), [(files.WRONG, "made for another width"), (files.TARGET, "it has no MTP layers")]
)
def test_a_wrong_drafter_that_somebody_else_attached(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, drafter: str, words: str
) -> None:
    attach(ollama, "theirs", drafter)
    with Api(given()) as api:
        failing(RuntimeFailed, words, lambda: api.load("theirs"), hint="--no-drafter")


def test_an_old_server_that_takes_no_notice_of_the_drafter(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path
) -> None:
    ollama.library.old = True
    failing(NoBackend, "took no notice of the drafter", lambda: backend.start(planned(backend, tagged(tmp_path))),
            hint="--no-drafter")  # fmt: skip
    assert ours(ollama) == []
    with started(backend, tagged(tmp_path, drafter=None, draft_tokens=0)) as (endpoint, client):
        assert not endpoint.drafter and collect(client.chat(QUESTION)).text


@pytest.mark.parametrize(
    ("version", "refused"), [("0.19.9", True), ("0.30.5", True), ("0.30.9", False), ("0.0.0", False)]
)
def test_an_old_version(backend: Ollama, ollama: fake.Ollama, tmp_path: Path, version: str, refused: bool) -> None:
    ollama.version = version
    plan = planned(backend, tagged(tmp_path))
    if refused:
        failing(NoBackend, f"Ollama {version} cannot run 26b", lambda: backend.start(plan), hint="update")
        assert ollama.asked("POST /api/create") == 0
    else:
        backend.prepare(plan, silent)


def test_fields_that_nobody_knows(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.extra = {"news": {"of": ["tomorrow"]}}
    with started(backend, tagged(tmp_path)) as (endpoint, client):
        assert collect(client.chat(QUESTION)).text
        assert backend.stats(endpoint).drafter_active and backend.held()


def test_a_slow_first_load(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.children.load_s = 0.4
    since = time.monotonic()
    with started(backend, tagged(tmp_path)) as (_, client):
        assert time.monotonic() - since > 0.4 and collect(client.chat(QUESTION)).text
    assert ollama.children.started == 1, "nothing was loaded twice"


def test_too_little_memory_leaves_nothing(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.children.short = True
    failing(RuntimeFailed, "out of memory.*17.3 GiB, 11.2 GiB are free",
            lambda: backend.start(planned(backend, tagged(tmp_path))), hint="--context")  # fmt: skip
    assert ours(ollama) == [] and TAG in ollama.library.models, "what was pulled stays"


def test_a_child_that_dies_while_it_loads(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.children.dies_loading = True
    failing(RuntimeFailed, "does not load in Ollama", lambda: backend.start(planned(backend, tagged(tmp_path))))
    assert ours(ollama) == []


def test_two_advisors_want_the_same_model(ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.library.pause_s = 0.02
    model, errors = tagged(tmp_path), []

    def prepare() -> None:
        try:
            runner = Ollama()
            runner.prepare(planned(runner, model), silent)
        except AdvisorError as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and ours(ollama) == [f"{NAME}:latest"]
    assert ollama.asked("POST /api/create") == 1, "the others found it made"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_create_that_is_cancelled_is_waited_for_and_taken_back(
    ollama: fake.Ollama, tmp_path: Path, number: int
) -> None:
    ollama.library.pause_s = 0.7
    model = pair(tmp_path)
    words = ["launch", str(model.target), "--drafter", str(model.drafter), "--backend", "ollama"]
    with subprocess.Popen([sys.executable, "-m", "advisor", *words], stderr=subprocess.PIPE) as process:
        wait_for(lambda: ollama.asked("POST /api/create") == 1)
        time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(60) == 130
    assert ollama.library.litter == [], "the server was allowed to finish"
    assert ollama.library.models == {} and files.digest(files.TARGET) not in ollama.library.blobs


def test_errors_inside_a_stream_with_status_200(ollama: fake.Ollama) -> None:
    with Api(given()) as api:
        missing = f"sha256:{'1' * 64}"
        error = failing(RuntimeFailed, "no such file", lambda: api.create({"model": "x", "files": {"t.gguf": missing}}))
        assert "Ollama failed" in error.message
        failing(UsageError, "invalid model name", lambda: api.create({"model": "bad name!!", "from": "toy"}))
    assert ollama.library.models == {}


def test_something_else_that_listens(backend: Ollama, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fakes import hub

    with hub.serve() as other:
        monkeypatch.setenv("OLLAMA_HOST", other.url)
        assert not backend.detect().available
        with Api(given()) as api:
            failing(AdvisorError, "Ollama failed|not Ollama's", api.entries)


def silent(_what: str, _done: int, _size: int | None) -> None: ...


@contextlib.contextmanager
def started(backend: Ollama, model: Model) -> Iterator[tuple[Endpoint, Client]]:
    endpoint = backend.start(planned(backend, model))
    with joined(backend, endpoint) as client:
        yield endpoint, client


def attach(ollama: fake.Ollama, name: str, drafter: str) -> None:
    """A model as somebody else makes it."""
    library = ollama.library
    for kind in (files.TARGET, drafter):
        library.blobs[files.digest(kind)] = files.content(kind)
    body = {"model": name, "files": {"t.gguf": files.digest(files.TARGET)},
            "draft_files": {"d.gguf": files.digest(drafter)}}  # fmt: skip
    *_, last = library.create(body)
    assert last == "success"
