"""Pictures and sounds beside a question."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from advisor.commands.answerer import Answerer
from advisor.console.printer import Printer
from advisor.errors import UsageError
from advisor.running import attachments
from advisor.running.client import Client, Done, Text, Timings
from backends.native import Native
from tests.launch.conftest import advisor

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.mark.parametrize(
    ("begins", "part"),
    [
        (PNG, {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}),
        (b"\xff\xd8\xff\xe0", {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,"}}),
        (b"RIFF\0\0\0\0WEBP", {"type": "image_url", "image_url": {"url": "data:image/webp;base64,"}}),
        (b"RIFF\0\0\0\0WAVE", {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
        (b"ID3\x04", {"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}}),
    ],
)
def test_a_file_is_known_by_how_it_begins(begins: bytes, part: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "named.wrongly"
    file.write_bytes(begins)
    encoded = base64.b64encode(begins).decode()
    if "image_url" in part:
        part["image_url"]["url"] += encoded
    else:
        part["input_audio"]["data"] = encoded
    assert attachments.content("What is this?", [file]) == [part, {"type": "text", "text": "What is this?"}]


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    for data, said in ((b"text", "no picture and no sound"), (b"", "1 byte to"), (bytes(33 << 20), "1 byte to")):
        file.write_bytes(data)
        with pytest.raises(UsageError, match=said):
            attachments.part(file)
    with pytest.raises(UsageError, match="No such file"):
        attachments.part(tmp_path / "none.png")


class Listening(Client):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []

    def chat(self, messages: Sequence[Mapping[str, Any]], **_: Any) -> Iterator[Text | Done]:
        self.sent += messages
        yield Text(text="A cat.")
        yield Done(reason="stop", timings=Timings())


def test_it_is_sent_with_the_question(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    client = Listening()
    question = attachments.content("What is this?", [tmp_path / "cat.png"])
    answer = Answerer(client, Native(), "12b", 0, {}).ask(question, Printer(quiet=True), raw=False)
    assert answer.text == "A cat."
    assert client.sent == [{"role": "user", "content": question}]


def test_an_engine_that_reads_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    for words, status, said in (
        (["demo", "What is this?"], 2, "reads no images"),
        (["12b", "What is this?", "--backend", "native"], 4, "takes no images"),
        (["demo", "What is this?", "--raw"], 2, "exclude each other"),
    ):
        done = advisor("run", *words, "--attach", str(tmp_path / "cat.png"), "--json")
        assert done.returncode == status, done.stdout
        assert said in json.loads(done.stdout)["error"]["message"]
