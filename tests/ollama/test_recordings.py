"""Every recorded exchange with a real Ollama is one case here: the tests' own server must answer alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import ollama_files as files
from tests.fakes.ollama import Ollama, serve
from tests.ollama.replay import NAMES, OURS, SPECIAL, Replay, plain

EXCHANGES = [name for name in NAMES if name not in SPECIAL]
LONG = (
    "tensors",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.tokens",
)


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """All of them, played once."""
    with serve(Ollama(version="0.0.0", log=tmp_path_factory.mktemp("ollama") / "server.log")) as ollama:
        made = Replay(ollama)
        made.run()
        yield made


def test_all_of_them_are_here() -> None:
    assert len(NAMES) == 176


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchange(replay: Replay, name: str) -> None:
    seen, recorded = replay.seen[name], files.recording(name)["response"]
    assert seen.status == recorded["status"]
    for header in ("Content-Type", "Allow"):
        assert seen.headers.get(header) == recorded["headers"].get(header)
    if "stream" in recorded:
        compare_streams(seen.text, recorded["stream"])
    else:
        compare_bodies(seen.text, recorded.get("body_text", ""))


def compare_bodies(seen: str, recorded: str) -> None:
    if not recorded.startswith("{"):
        assert seen == recorded
        return
    ours, theirs = json.loads(seen), json.loads(recorded)
    assert seen.endswith("\n") == recorded.endswith("\n")
    ours, theirs = cut(ours, theirs)
    for document in (ours, theirs):
        for model in document.get("models") or ():
            if model["name"] == "dense-mtp:latest":
                model["size"] = "unknown"  # no log tells the buffers of that target
    assert plain(ours) == plain(theirs)


def cut(ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Both with long arrays as short as the recording has them; how many items there were is compared."""
    for part in ("", "model_info"):
        holder, told = (ours.get(part, {}), theirs.get(part, {})) if part else (ours, theirs)
        for key in LONG:
            if isinstance(told.get(key), list) and str(told[key][-1]).startswith(files.CUT):
                assert len(holder[key]) == len(files.expanded(told[key]))
                if key == "tensors":  # which of them the recording shows depends on the order in the file
                    holder[key] = [each for each in holder[key] if each in told[key]]
                told[key] = told[key][:-1]
                holder[key] = holder[key][: len(told[key])]
    return ours, theirs


def compare_streams(seen: str, recorded: list[dict[str, Any]]) -> None:
    """Line by line; where lines were cut from the recording, those before and after, and how many there were."""
    lines = seen.splitlines(keepends=True)
    missing = [(place, int(item["truncated"].split()[0])) for place, item in enumerate(recorded) if "truncated" in item]
    if missing:
        ((place, count),) = missing
        assert len(lines) == len(recorded) - 1 + count
        lines = lines[:place] + lines[place + count :]
        recorded = recorded[:place] + recorded[place + 1 :]
    assert [heard(line) for line in lines] == [heard(item["line"]) for item in recorded]


def heard(line: str) -> Any:
    mark, text = ("data: ", line.removeprefix("data: ")) if line.startswith("data: ") else ("", line)
    return (mark, plain(json.loads(text)), line[-1:]) if text.startswith("{") else line


# ---- What is no plain exchange


def test_an_existing_blob_breaks_the_pipe(replay: Replay) -> None:
    assert files.recording("033-blob-post-existing")["response"]["client_saw"].startswith("BrokenPipeError")
    assert replay.extra["033-blob-post-existing"] in ("BrokenPipeError", "ConnectionResetError")


def test_an_existing_blob_is_answered_before_its_body(replay: Replay) -> None:
    name = "033c-blob-post-existing-expect"
    theirs = files.recording(name)["response"]["raw_head"].splitlines()
    ours = replay.extra[name].splitlines()
    assert ours[0] == theirs[0]
    assert {"Content-Length: 0", "Connection: close"} <= set(ours) & set(theirs)


@pytest.mark.parametrize("model", sorted(files.recording("080-on-disk-manifests")["models"]))
def test_manifest(replay: Replay, model: str) -> None:
    theirs = files.recording("080-on-disk-manifests")["models"][model]
    ours = replay.extra["080-on-disk-manifests"][model]
    assert plain(ours["layers"]) == plain(theirs["manifest"]["layers"])
    assert ours["config"] == theirs["config_blob"]
    assert ours["config_size"] == theirs["manifest"]["config"]["size"]
    assert ours["params"] == theirs["params_blob"]
    exact = [layer["digest"] for layer in theirs["manifest"]["layers"] if layer["mediaType"].endswith("params")]
    assert exact == [layer["digest"] for layer in ours["layers"] if layer["mediaType"].endswith("params")]


def test_what_is_loading_is_not_listed(replay: Replay) -> None:
    theirs = {poll["body_text"] for poll in files.recording("098-ps-while-loading")["polls"]}
    assert set(replay.extra["098-ps-while-loading"]) == theirs == {'{"models":[]}'}


def test_children_are_shared(replay: Replay) -> None:
    steps = [step for step in files.recording("110-runner-sharing")["sequence"] if "step" not in step]
    ours = replay.extra["110-runner-sharing"]
    for step, found in zip(steps, ours, strict=True):
        started = step["new_llama_server_started_with"]
        assert found["new"] is isinstance(started, list)
        wanted = re.findall(r"sha256-([0-9a-f]{64})", " ".join(started)) if isinstance(started, list) else []
        assert [OURS[digest] for digest in found["drafter"]] == [files.DIGESTS[digest] for digest in wanted]
        assert found["acceptance"] == step["acceptance_lines"]
        assert found["response"] == step["response"]
        assert found["names"] == [tuple(each) for each in step["ps_names_and_sizes"]]


def test_waiting_counts_as_loading_and_as_total(replay: Replay) -> None:
    theirs = {key: each["reply"] for key, each in files.recording("111-queueing")["results"].items()}
    for found in (replay.extra["111-queueing"], theirs):
        first, second, _, fourth = found.values()
        assert second["load_duration"] > first["eval_duration"] / 20
        assert second["total_duration"] >= second["load_duration"]
        assert fourth["load_duration"] < fourth["total_duration"] / 20
        assert fourth["total_duration"] > 2 * fourth["eval_duration"]
        assert [each["eval_count"] for each in found.values()] == [1500, 40, 1500, 40]


def test_a_client_that_closes_has_heard_this(replay: Replay) -> None:
    name = "187-generate-client-closes"
    theirs = [item["line"] for item in files.recording(name)["response"]["stream"]]
    assert [heard(line) for line in replay.extra[name]] == [heard(line) for line in theirs]


@pytest.mark.parametrize("name", ["190-create-cancel-at-once", "191-create-cancel-after-first-line"])
def test_a_cancelled_create_leaves_no_model_and_litter(replay: Replay, name: str) -> None:
    theirs = files.recording(name)
    assert replay.extra[name]["there"] is any(theirs["after"].values()) is False
    assert replay.extra[name]["litter"] and set(replay.extra[name]["litter"]) == {"COPY"}
    if said := theirs["response"]["received_before_close"]:
        assert said.splitlines()[-2] in replay.extra[name]["received"]


def test_log_lines(replay: Replay) -> None:
    theirs = files.recording("300-server-log-lines")
    ours = replay.extra["300-server-log-lines"]

    def buffers(lines: list[str]) -> list[str]:
        return [line for line in lines if "buffer size" in line]

    assert buffers(ours["load"].splitlines()) == buffers(theirs["load_with_drafter"])
    starting = next(line for line in theirs["load_with_drafter"] if "starting llama-server" in line)
    words = re.findall(r"--[\w-]+", starting)
    line = next(line for line in ours["load"].splitlines() if "starting llama-server" in line)
    assert set(re.findall(r"--[\w-]+", line)) <= set(words)
    assert {"--spec-type", "--spec-draft-model", "--spec-draft-n-max", "--model", "--port"} <= set(words)
    told = [re.sub(r"task \d+", "task N", line) for line in theirs["one_generate_call_with_drafter"]]
    said = [re.sub(r"task \d+", "task N", line) for line in ours["generate"].splitlines()]
    for line in told:
        if "draft acceptance" in line or "acc per pos" in line:
            assert line in said


def test_log_path_is_a_file(replay: Replay) -> None:
    assert isinstance(replay.ollama.log, Path) and replay.ollama.log.is_file()
