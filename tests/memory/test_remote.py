"""Headers of files that are elsewhere, against a local server: ranges, their absence, tokens, split files, lies."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gguf as writer
import pytest

from advisor import cli
from advisor.errors import DownloadFailed, RuntimeFailed, UsageError
from advisor.files import remote
from tests.bench.memory import Pair
from tests.tools import header_gguf


class Files(ThreadingHTTPServer):
    """Serves `folder`; `mode` says how badly. `asked`: (path, Range, Authorization) of every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.folder = Path()
        self.mode = ""
        self.asked: list[tuple[str, str, str]] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Files

    def do_GET(self) -> None:
        server = self.server
        header = self.headers.get("Range", "")
        server.asked.append((self.path, header, self.headers.get("Authorization", "")))
        path = server.folder / Path(self.path.partition("?")[0]).name
        if server.mode.isdigit():
            self.send_error(int(server.mode))
        elif not path.exists():
            self.send_error(404)
        elif server.mode == "no ranges":
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(bytes(1 << 20))
        else:
            self.piece(path, header)

    def piece(self, path: Path, header: str) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", header)
        assert match, header
        total = path.stat().st_size
        begin, end = int(match[1]), min(int(match[2]) + 1, total)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{total}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        with path.open("rb") as file, contextlib.suppress(OSError):
            file.seek(begin)
            data = file.read(end - begin)
            self.wfile.write(data[: len(data) // 2] if self.server.mode == "short" else data)
            self.server.sent += len(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    found = Files()
    found.folder = pairs["31b"].target.parent
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def test_only_the_header_is_fetched(server: Files, pairs: dict[str, Pair]) -> None:
    """Of 17 GB, one step of 1 MiB."""
    found = remote.header(f"{server.url}/{pairs['31b'].target.name}?download=true")
    assert found.total_bytes == pairs["31b"].target.stat().st_size > 17e9
    assert found.number("block_count") == 60
    assert server.sent <= 1 << 20


def test_a_vocabulary_takes_a_second_step(server: Files, tmp_path: Path, pairs: dict[str, Pair]) -> None:
    out = writer.GGUFWriter(None, "gemma4")
    header_gguf.tokenizer(out, 262144, vocabulary=True)
    header_gguf.write(tmp_path / "long.gguf", out, [header_gguf.Tensor("a", (32,), header_gguf.Type.F32)])
    server.folder = tmp_path
    started = time.process_time()
    assert remote.header(f"{server.url}/long.gguf").vocabulary == 262144
    assert time.process_time() - started < 5
    assert len(server.asked) == 2


def test_the_hub(server: Files, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    remote.header(f"hf:unsloth/gemma/{pairs['e2b'].target.name}")
    path, _, token = server.asked[0]
    assert path == f"/unsloth/gemma/resolve/main/{pairs['e2b'].target.name}"
    assert token == "Bearer hf_secret"


def test_the_token_goes_nowhere_else(
    server: Files, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    remote.header(f"{server.url}/{pairs['e2b'].target.name}")
    assert server.asked[0][2] == ""
    server.mode = "403"
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    assert cli.run(["estimate", "hf:a/b/c.gguf", "--json"]) == 5
    shown = capsys.readouterr()
    assert "hf_secret" not in shown.out + shown.err
    assert "HF_TOKEN" in shown.out


@pytest.mark.parametrize(("mode", "said"), [("404", "404"), ("500", "500"), ("no ranges", "ranges"), ("short", "")])
def test_servers_that_fail(mode: str, said: str, server: Files, pairs: dict[str, Pair]) -> None:
    server.mode = mode
    with pytest.raises(DownloadFailed, match=said) as raised:
        remote.header(f"{server.url}/{pairs['e2b'].target.name}")
    assert raised.value.exit_code == 5
    assert raised.value.hint


def test_offline(server: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.url
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
        remote.header("hf:a/b/c.gguf")
    with pytest.raises(DownloadFailed):
        remote.header(url.replace(str(server.server_port), "9") + "/x.gguf")


@pytest.mark.parametrize(
    "name", ["hf:", "hf:a/b", "hf:a/b/c.bin", "hf:../../x/y.gguf/", "http://[bad/x.gguf", "http:///x.gguf"]
)
def test_names_that_are_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises((UsageError, DownloadFailed)):
        remote.header(name)


def test_a_remote_file_that_is_none(server: Files, tmp_path: Path) -> None:
    server.folder = tmp_path
    (tmp_path / "text.gguf").write_text("hello, I am a text")
    with pytest.raises(RuntimeFailed, match="not a GGUF"):
        remote.header(f"{server.url}/text.gguf")


def test_a_split_file(server: Files, tmp_path: Path, pairs: dict[str, Pair]) -> None:
    """Later parts say nothing of themselves but their number."""
    server.folder = tmp_path
    whole = header_gguf.Tensor("token_embd.weight", (32, 64), header_gguf.Type.F32)
    for part in (1, 2):
        out = writer.GGUFWriter(None, "gemma4")
        if part == 2:
            out.kv_data[0].pop("general.architecture")
        out.add_uint16("split.no", part - 1)
        out.add_uint16("split.count", 2)
        tensor = whole._replace(name=f"blk.{part}.weight")
        header_gguf.write(tmp_path / f"m-{part:05d}-of-00002.gguf", out, [tensor])
    found = remote.header(f"{server.url}/m-00001-of-00002.gguf")
    assert found.tensors == {"blk.1.weight": whole.size, "blk.2.weight": whole.size}
    assert found.parameters == 2 * 32 * 64


def test_the_command(server: Files, pairs: dict[str, Pair], capsys: pytest.CaptureFixture[str]) -> None:
    model, drafter = (f"{server.url}/{path.name}" for path in pairs["12b"])
    assert cli.run(["estimate", model, "--drafter", drafter, "--simulate", "RTX 4090, 64GB", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["repo"] == model
    assert document["drafter"]["enabled"]
