"""What is made in the library, what is used again, what is rebuilt, and what is never touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advisor.errors import RuntimeFailed, UsageError
from advisor.machine import Gpu
from backends.base import Options
from backends.ollama import Ollama, derived, digests, ledger
from backends.ollama.models import Shown
from tests.fakes import ollama as fake
from tests.fakes import ollama_files as files
from tests.fakes.ollama_library import Library
from tests.fakes.ollama_shelf import Manifest
from tests.ollama.conftest import TAG, pair, planned, tagged, written
from tests.ollama.test_faults import NAME, ours, silent

FULL = f"{NAME}:latest"


@pytest.fixture
def backend() -> Ollama:
    return Ollama()


def test_a_dry_run_names_both_ways(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    model = tagged(tmp_path)
    plan = planned(backend, model)
    assert plan == planned(backend, model), "the same every time"
    assert ollama.requests == [], "nothing is asked for a plan"
    lines = plan.command.splitlines()
    assert lines[0] == f"ollama pull {TAG}"
    assert [line for line in lines if line.startswith(("FROM", "DRAFT", "PARAMETER"))] == [
        f"FROM {TAG}", f"DRAFT {model.drafter}", "PARAMETER num_ctx 4096", "PARAMETER draft_num_predict 3",
        "PARAMETER temperature 1", "PARAMETER top_p 0.95", "PARAMETER top_k 64",
    ]  # fmt: skip
    assert lines[-2:] == [f"ollama create {NAME} -f Modelfile", f"ollama run {NAME}"]
    calls = [(call["method"], call["url"].removeprefix(ollama.url)) for call in plan.requests]
    assert [method for method, _ in calls] == ["POST", "HEAD", "POST", "POST", "POST"]
    assert [path for _, path in calls if "blobs" not in path] == ["/api/pull", "/api/create", "/api/generate"]
    body = json.loads(plan.requests[3]["body"])
    assert body["from"] == TAG and body["model"] == NAME and list(body["draft_files"]) == ["drafter.gguf"]
    assert body["parameters"]["draft_num_predict"] == 3


def test_what_is_done_is_what_was_planned(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    plan = planned(backend, tagged(tmp_path))
    backend.prepare(plan, silent)
    done = dict(ollama.bodies)["/api/create"]
    told = json.loads(plan.requests[3]["body"])
    assert {**done, "draft_files": list(done["draft_files"])} == {**told, "draft_files": list(told["draft_files"])}
    assert ollama.asked(f"HEAD /api/blobs/{files.digest(files.DRAFTER)}") == 1


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("gemma4:26b-a4b-it-qat", "advisor-gemma4-26b-qat-mtp"),
        ("gemma4:12b-it-q8_0", "advisor-gemma4-12b-q8_0-mtp"),
        ("gemma4:e2b", "advisor-gemma4-e2b-mtp"),
    ],
)
def test_names(tmp_path: Path, tag: str, name: str) -> None:
    assert derived.recipe(tagged(tmp_path, tag=tag), Options()).name == name


def test_names_of_files(tmp_path: Path) -> None:
    made = derived.recipe(pair(tmp_path), Options())
    assert (made.base, made.name) == ("advisor-target-bare", "advisor-target-mtp")
    plain = tagged(tmp_path, tag="", target=Path("My Model (2).gguf"), drafter=None, draft_tokens=0)
    assert derived.recipe(plain, Options()).name == "advisor-my-model-2"


def test_what_was_made_is_used_again(ollama: fake.Ollama, tmp_path: Path) -> None:
    model = tagged(tmp_path)
    for _ in range(3):
        backend = Ollama()  # as another process would
        backend.prepare(planned(backend, model), silent)
    assert ollama.asked("POST /api/create") == 1 and ollama.asked("POST /api/pull") == 1
    posted = f"POST /api/blobs/{files.digest(files.DRAFTER)}"
    assert ollama.asked(posted) == 1, "a blob that is there is not sent"


def test_a_file_is_read_once(ollama: fake.Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it changes. Where nothing can be remembered, it is read again."""
    seen: list[str] = []
    told = lambda what, _done, _size: seen.append(what)  # noqa: E731
    path = written(tmp_path, files.WRONG)
    first = digests.of(path, told)
    assert first == files.digest(files.WRONG) and set(seen) == {f"reading {path.name}"}
    seen.clear()
    assert digests.of(path, told) == first and seen == []
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert digests.of(path, told) != first and seen
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    assert digests.of(path, told) == digests.of(path, told)


@pytest.mark.parametrize("change", [{"context_tokens": 2048}, {"draft_tokens": 2}, {"sampling": {"temperature": 0.5}}])
def test_another_setting_rebuilds_it(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, change: dict[str, object]
) -> None:
    backend.prepare(planned(backend, tagged(tmp_path)), silent)
    first = ollama.library.models[FULL].digest
    backend.prepare(planned(backend, tagged(tmp_path, **change)), silent)
    assert ollama.library.models[FULL].digest != first and ours(ollama) == [FULL]


def test_layers_and_threads_are_the_models_own(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """Asked for, they are parameters and flags of the child; asked for no longer, the model is made without them."""
    plan = backend.plan(tagged(tmp_path), Options(gpu_layers=0, threads=2))
    assert {"PARAMETER num_gpu 0", "PARAMETER num_thread 2"} < set(plan.command.splitlines())
    backend.start(plan)
    assert "-ngl 0 -t 2 " in started_with(tmp_path)
    backend.start(planned(backend, tagged(tmp_path)))
    assert "-ngl" not in started_with(tmp_path) and " -t " not in started_with(tmp_path)
    assert ollama.asked("POST /api/create") == 2 and ollama.children.started == 2 and ours(ollama) == [FULL]


def test_layers_that_were_reckoned_are_left_to_it(tmp_path: Path) -> None:
    card = Gpu(name="RTX 4090", vendor="nvidia", index=0, memory_total_bytes=1, memory_free_bytes=1)
    plan = Ollama().plan(tagged(tmp_path), Options(gpu_layers=31, cpu_expert_layers=12, gpus=(card,)))
    assert "num_gpu" not in plan.command


def started_with(folder: Path) -> str:
    """The command of the child that was started last."""
    return [line for line in (folder / "server.log").read_text().splitlines() if "starting llama-server" in line][-1]


def test_a_tag_that_has_moved_rebuilds_it(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    plan = planned(backend, tagged(tmp_path))
    backend.prepare(plan, silent)
    moved = files.content(files.TARGET)[:-1] + b"\2"
    ollama.library.registry[TAG] = [("model", moved)]
    list(ollama.library.pull(TAG))  # `ollama pull`, by the user
    backend.prepare(plan, silent)
    assert ollama.asked("POST /api/create") == 2
    assert ollama.library.models[FULL].target == ollama.library.models[TAG].target


def test_a_model_of_the_same_name_that_somebody_else_made(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    taken(ollama.library, FULL)
    before = ollama.library.models[FULL].digest
    endpoint = backend.start(planned(backend, tagged(tmp_path)))
    assert endpoint.model == f"{NAME}-2"
    backend.stop(endpoint)
    assert backend.remove(endpoint) == (f"{NAME}-2",)
    assert ours(ollama) == [FULL] and ollama.library.models[FULL].digest == before


def test_what_somebody_else_made_alike_is_used_and_not_removed(ollama: fake.Ollama, tmp_path: Path) -> None:
    backend = Ollama()
    plan = planned(backend, tagged(tmp_path))
    backend.prepare(plan, silent)
    ledger.forget(ollama.url, NAME)
    endpoint = backend.start(plan)
    backend.stop(endpoint)
    assert ollama.asked("POST /api/create") == 1 and backend.remove(endpoint) == () and ours(ollama) == [FULL]


def test_a_model_that_was_changed_since_is_not_removed(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    endpoint = backend.start(planned(backend, tagged(tmp_path)))
    taken(ollama.library, FULL)
    assert backend.remove(endpoint) == () and ours(ollama) == [FULL]


def test_remove_takes_away_what_was_made_and_nothing_else(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """A bare target that was made from a file goes with the last model that needs it; what was pulled stays."""
    one = backend.start(planned(backend, pair(tmp_path)))
    plain = pair(tmp_path)
    two = backend.start(planned(backend, type(plain)(name="toy", target=plain.target, context_tokens=512)))
    assert set(ours(ollama)) == {f"advisor-target{end}:latest" for end in ("", "-bare", "-mtp")}
    assert backend.remove(one) == ("advisor-target-mtp",)
    assert backend.remove(two) == ("advisor-target", "advisor-target-bare")
    assert ollama.library.models == {} and files.digest(files.TARGET) not in ollama.library.blobs


def test_a_tag_that_brings_its_own_drafter(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """Never a second one on top; and none is loaded where none is wanted."""
    ollama.library.registry[TAG].append(("draft", files.content(files.DRAFTER)))
    endpoint = backend.start(planned(backend, tagged(tmp_path, drafter=written(tmp_path, files.RANDOM))))
    made = ollama.library.models[f"{endpoint.model}:latest"]
    assert [layer.digest for layer in made.of("draft")] == [files.digest(files.DRAFTER)]
    assert endpoint.drafter and ollama.library.parameters(made)["draft_num_predict"] == 3
    plain = backend.start(planned(backend, tagged(tmp_path, drafter=None, draft_tokens=0)))
    made = ollama.library.models[f"{plain.model}:latest"]
    assert ollama.library.parameters(made)["draft_num_predict"] == 0 and not plain.drafter
    assert all(child.drafter is None for child in ollama.children.listed())


def test_a_bare_target_of_that_name_that_somebody_else_made(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path
) -> None:
    taken(ollama.library, "advisor-target-bare:latest")
    with pytest.raises(RuntimeFailed, match="which advisor did not make") as caught:
        backend.prepare(planned(backend, pair(tmp_path)), silent)
    assert caught.value.command == "ollama rm advisor-target-bare"


def test_files_whose_digest_changes_in_the_check(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """Plain floats come out of the server's check with another digest: what was sent is remembered."""
    model = pair(tmp_path)
    dense = type(model)(name="dense", target=written(tmp_path, files.DENSE), context_tokens=512)
    for _ in range(2):
        backend.prepare(planned(backend, dense), silent)
    assert ollama.asked("POST /api/create") == 2  # the bare target and what is derived from it, once each


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(kv_type="q8_0"), "--kv-type"), (Options(sequences=4), "--parallel"),
        (Options(api_key="k"), "no API key"), (Options(extra=("--threads", "4")), "takes no flags"),
    ],
)  # fmt: skip
def test_what_ollama_has_not_for_one_model_is_refused(tmp_path: Path, options: Options, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Ollama().plan(tagged(tmp_path), options)


def test_a_modelfile_with_texts_in_quotes() -> None:
    digest = "a" * 64
    text = (
        f"# FROM x\nFROM /m/blobs/sha256-{digest}\nFROM C:\\m\\blobs\\sha256-{'b' * 64}\n"
        'TEMPLATE """{{ if .System }}\nFROM nowhere\n{{ end }}"""\nDRAFT /m/blobs/sha256-' + "c" * 64 + "\n"
        'PARAMETER stop "<turn|>"\nPARAMETER stop <eos>\nPARAMETER top_k 64\nLICENSE """\nDRAFT of a licence\n"""\n'
    )
    found = Shown.read(text, {"general.architecture": "gemma4"}, ("completion",))
    assert found.target == f"sha256:{digest}" and found.projectors == (f"sha256:{'b' * 64}",)
    assert found.drafters == (f"sha256:{'c' * 64}",)
    assert found.parameters == {"stop": ("<turn|>", "<eos>"), "top_k": ("64",)}


def taken(library: Library, name: str) -> None:
    """A model of that name, made by somebody else."""
    library.blobs[files.digest(files.DENSE)] = files.content(files.DENSE)
    *_, last = library.create({"model": name, "files": {"m.gguf": files.digest(files.DENSE)}})
    assert last == "success" and isinstance(library.models[name], Manifest)
