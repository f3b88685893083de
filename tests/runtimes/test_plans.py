"""What `advisor launch --dry-run` prints for runtimes that are not installed: whole and current command lines."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from advisor.cli import cli
from advisor.commands.launch import parse_hosts
from advisor.commands.run import stats_lines
from advisor.errors import NoBackend, RuntimeFailed, UsageError
from advisor.hardware.simulate import parse
from advisor.knowledge import catalog
from advisor.memory import room
from advisor.running import launching, starting
from advisor.running.client import _message, _unmarked
from advisor.running.order import Order, is_place
from backends.base import LaunchPlan, Model, load
from tests.runtimes.conftest import Install, written


def plan(spec: str, **order) -> LaunchPlan:
    setup = launching.configure(Order(machine=parse(spec, catalog.load()), **order), strict=False)
    return starting.planned(load(setup.backend), setup, port=8000)


def test_vllm_divides_among_the_fewest_cards_that_hold_it() -> None:
    argv = plan("4x RTX 3090, 128GB", model="31b", backend="vllm", quant="BF16").argv
    assert argv[:3] == ("vllm", "serve", "google/gemma-4-31B-it")
    assert argv[argv.index("--tensor-parallel-size") + 1] == "4"
    one = plan("H100 SXM, 256GB", model="31b", backend="vllm").argv
    assert "--tensor-parallel-size" not in one
    assert '"model":"google/gemma-4-31B-it-assistant"' in one[one.index("--speculative-config") + 1]


def test_each_host_has_its_command() -> None:
    made = plan("2x RTX 3090, 128GB", model="31b", backend="vllm", quant="BF16", hosts=("a", "b"))
    assert list(made.hosts) == ["b"]
    assert made.argv[-6:] == ("--nnodes", "2", "--node-rank", "0", "--master-addr", "a")
    assert "--node-rank 1 --master-addr a --headless" in made.hosts["b"]
    assert made.argv[made.argv.index("--tensor-parallel-size") + 1] == "4"


def test_no_pipeline_with_the_drafter() -> None:
    with pytest.raises(UsageError, match="pipeline parallelism"):
        plan("H100 SXM, 256GB", model="12b", backend="vllm", extra=("--pipeline-parallel-size=2",))


def test_sglang_and_mlx_count_one_more_than_the_drafts() -> None:
    flags = plan("H100 SXM, 256GB", model="31b", backend="sglang", draft_tokens=3).argv
    assert flags[flags.index("--speculative-num-draft-tokens") + 1] == "4"
    block = plan("M3 Max 64GB", model="e4b", backend="mlx", draft_tokens=3).argv
    assert block[block.index("--draft-block-size") + 1] == "4"


def test_litert_has_the_small_ones_only() -> None:
    assert '"speculative_decoding":true' in plan("cpu, 16GB", model="e2b", backend="litert").command
    with pytest.raises(UsageError, match="no checkpoint of 31b"):
        plan("cpu, 16GB", model="31b", backend="litert")


@pytest.mark.parametrize("text", ["a", "a,a", "a,", "a,-b", "a, b c"])
def test_hosts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_hosts(text)


def test_nothing_is_recommended_for_them() -> None:
    from advisor.choice.ranking import Request, rank
    from advisor.knowledge import catalog

    with pytest.raises(NoBackend, match="GGUF"):
        rank(Request(backend="vllm"), parse("cpu, 16GB", catalog.load()), catalog.load())


def test_nothing_is_made_for_a_runtime_that_is_not_here(alone: Path) -> None:
    with pytest.raises(NoBackend, match="not installed"):
        launching.configure(Order(machine=parse("cpu, 16GB", catalog.load()), model="demo", backend="vllm"))
    assert not (alone / "cache").exists()


@pytest.mark.parametrize("words", [("launch", "demo"), ("launch", "."), ("run", ".", "hi"), ("trial", ".")])
def test_not_installed_comes_with_the_line_that_installs_it(words: tuple[str, ...]) -> None:
    found = CliRunner().invoke(cli, [*words, "--backend", "vllm"]).exception
    assert isinstance(found, NoBackend)
    assert "not installed" in found.message
    assert "pip install vllm" in found.hint


def test_what_is_not_made_yet_is_not_here() -> None:
    done = CliRunner().invoke(cli, ["launch", "demo", "--backend", "vllm", "--dry-run", "--json"])
    files = json.loads(done.stdout)["plan"]["files"]
    assert [(each["role"], each["here"]) for each in files] == [("target", False), ("drafter", False)]


def test_a_checkpoint_without_a_backend_says_who_reads_it(pair: Model) -> None:
    found = CliRunner().invoke(cli, ["run", str(pair.target), "hi"]).exception
    assert isinstance(found, RuntimeFailed)
    assert "--backend transformers, vllm" in found.hint
    assert "--drafter" in found.hint


def test_the_demo_is_called_by_its_name() -> None:
    setup = launching.configure(
        Order(model="demo", backend="mlx", machine=parse("cpu, 16GB", catalog.load())), strict=False
    )
    assert setup.order is not None
    assert setup.order.model == "demo"
    assert setup.order.plain().typed() == "advisor launch demo --backend mlx --no-drafter"


def test_an_error_in_another_frameworks_shape_is_read() -> None:
    assert _message({"detail": "Prompt exceeds the context"}) == "Prompt exceeds the context"
    assert _message({"error": {"message": "no"}}) == "no"


def test_a_speed_that_nobody_tells_is_left_out() -> None:
    counted = {"prompt_n": 17, "prompt_per_second": None, "predicted_n": 9, "predicted_per_second": 12.5}
    said = stats_lines({**counted, "draft_n": None, "draft_n_accepted": None})
    assert said[:2] == ["prompt   17 tokens", "answer   9 tokens, 12.5 tokens/s"]


def test_sglang_asks_for_two_cards_for_the_large_ones() -> None:
    flags = plan("8x H100 SXM, 512GB", model="31b", backend="sglang").argv
    assert flags[flags.index("--tp") + 1] == "2"
    assert "--tp" not in plan("8x H100 SXM, 512GB", model="31b", backend="sglang", use_drafter=False).argv
    assert "--tp" not in plan("8x H100 SXM, 512GB", model="12b", backend="sglang").argv
    alone = Order(machine=parse("H100 SXM, 256GB", catalog.load()), model="31b", backend="sglang")
    setup = launching.configure(alone, strict=False)
    assert any("asks for 2 GPUs" in note for note in setup.notes)


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_tensors_are_divided_among_2_4_or_8_cards(name: str, count: int) -> None:
    parallel = {2: 20, 4: 60, 8: 150}[count]
    argv = plan("8x H100 SXM, 512GB", model="31b", backend=name, quant="BF16", context=16384, parallel=parallel).argv
    flag = "--tensor-parallel-size" if name == "vllm" else "--tp"
    assert argv[argv.index(flag) + 1] == str(count)
    assert not any("pipeline" in word for word in argv)


def test_three_cards_are_two() -> None:
    argv = plan("3x RTX 3090, 128GB", model="31b", backend="vllm").argv
    assert argv[argv.index("--tensor-parallel-size") + 1] == "2"


def test_sglang_has_a_command_for_each_host() -> None:
    made = plan("2x RTX 3090, 128GB", model="31b", backend="sglang", quant="BF16", hosts=("a", "b", "c"))
    assert list(made.hosts) == ["b", "c"]
    assert made.argv[-6:] == ("--nnodes", "3", "--node-rank", "0", "--dist-init-addr", "a:20000")
    assert "--node-rank 2 --dist-init-addr a:20000" in made.hosts["c"]
    assert made.argv[made.argv.index("--tp") + 1] == "6"


def test_the_printed_command_has_the_cards_that_are_not_the_first_ones() -> None:
    mixed = plan("RTX 3060 12GB, 2x RTX 3090, 128GB", model="31b", backend="vllm")
    assert mixed.environment["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert mixed.command.startswith("CUDA_VISIBLE_DEVICES=1,2 vllm serve")
    assert plan("2x RTX 3090, 128GB", model="31b", backend="vllm").command.startswith("vllm serve")


def test_a_page_of_html_is_read_as_what_it_says() -> None:
    """LiteRT-LM's errors, as its server gave them."""
    head = "<!DOCTYPE HTML>\n<head><title>Error response</title></head>\n"
    page = f"{head}<body>\n<h1>Error response</h1>\n<p>Error code: 500</p></body>"
    assert _unmarked(page) == "Error response Error code: 500"
    assert _unmarked("plain words") == "plain words"


def test_sglang_is_planned_with_what_it_takes_of_a_card() -> None:
    machine, known = parse("RTX 4090, 64GB", catalog.load()), catalog.load()
    found = known.models["12b"].checkpoints[0]
    card = machine.gpus[0].memory_total_bytes
    sizes = [int(card * share) - room.CARD_RESERVE - (1 << 30) for share in (0.8, 0.88, 0.96)]
    for name, fits in {"vllm": [True, True, False], "sglang": [True, False, False]}.items():
        rooms = [
            room.room_for(
                msgspec.structs.replace(found, bytes=size), known.models["12b"], machine, known.runtimes[name],
                context=1024, drafter=False,
            )
            for size in sizes
        ]  # fmt: skip
        assert [one.fits for one in rooms] == fits, name
    argv = plan("H100 SXM, 256GB", model="12b", backend="sglang").argv
    assert float(argv[argv.index("--mem-fraction-static") + 1]) == known.runtimes["sglang"].card_share


@pytest.mark.parametrize("backend", ["litert", "llama.cpp"])
def test_a_phone_is_told_what_to_install(backend: str) -> None:
    phone = Order(machine=parse("Pixel 9", catalog.load()), model="e2b", backend=backend)
    notes = launching.configure(phone, strict=False).notes
    assert notes[0].startswith("on the phone: Google AI Edge Gallery from Google Play, with gemma-4-E2B-it.litertlm")


@pytest.mark.parametrize("name", ["vllm", "mlx"])
def test_a_variable_that_names_no_program_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = catalog.load().runtimes[name].variable
    monkeypatch.setenv(variable, str(tmp_path / "gone"))
    found = load(name).detect()
    assert found.why_not == f"not installed where {variable} says: there is no program {tmp_path / 'gone'}"
    assert f"unset {variable}" in (found.hint or "")
    monkeypatch.delenv(variable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load(name).detect().why_not == "not installed"


def test_a_folder_called_like_a_size_needs_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("12b", "mine"):
        (tmp_path / name).mkdir()
    assert [is_place(each) for each in ("12b", "./12b", "mine", "31b", str(tmp_path))] == [
        False,
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("name", "words"), [("vllm", ["--version"]), ("sglang", ["version"]), ("litert", ["--version"])]
)
def test_a_report_asks_each_for_its_version_as_it_wants_to_be_asked(
    name: str, words: list[str], install: Install
) -> None:
    program = install(name)
    assert load(name).reports() == ((str(program), *words),)


def test_a_checkpoint_s_own_context_is_not_exceeded(tmp_path: Path) -> None:
    """Or vLLM ends while it starts."""
    text = {"hidden_size": 64, "vocab_size": 512, "max_position_embeddings": 2048}
    folder = written(tmp_path / "short", {"model_type": "gemma4", "text_config": text})
    machine = parse("RTX 4090, 64GB", catalog.load())

    def context(**order) -> int:
        asked = Order(machine=machine, model=str(folder), backend="vllm", **order)
        return launching.configure(asked, strict=False).model.context_tokens

    assert (context(), context(context=512)) == (2048, 512)
    with pytest.raises(UsageError, match="short takes 1 to 2,048"):
        context(context=4096)
