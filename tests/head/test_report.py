"""The document against its schema, and the page for people."""

import io
import re
import shlex

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from advisor.choice.ranking import Request, rank
from advisor.commands.launch import command as launch
from advisor.knowledge.catalog import load
from advisor.pages import terminal
from advisor.pages.report import Document, document, json_schema
from tests.head.machines import NAMED, simulated

CATALOG = load()
VALIDATOR = jsonschema.Draft202012Validator(json_schema(), format_checker=jsonschema.FormatChecker())
CONTRACT = {
    "": "schema advisor_version generated_at machine request recommendations rejected",
    "machine": "os simulated cpu memory gpus backends basis",
    "machine.cpu": "name cores threads features",
    "machine.memory": "total_bytes available_bytes limit_bytes limit_source bandwidth_bytes_per_s unified",
    "request": "use_case context_tokens prefer min_tokens_per_s backend drafter",
    "recommendations.0": "rank model name repo file quant backend drafter placement memory speed quality cost basis "
    "reasons warnings command",
    "recommendations.0.drafter": "enabled repo file draft_tokens reason",
    "recommendations.0.placement": "mode gpu_layers cpu_expert_layers",
    "recommendations.0.memory": "weights_bytes kv_cache_bytes compute_bytes drafter_bytes projector_bytes total_bytes "
    "device_bytes host_bytes budget_bytes headroom_bytes",
    "recommendations.0.speed": "depth_tokens decode_tokens_per_s low high plain_tokens_per_s drafter_gain "
    "prefill_tokens_per_s",
    "recommendations.0.quality": "score benchmarks",
    "rejected.0": "model quant code reason",
}


def answer(spec: str, **request: object) -> Document:
    return document(rank(Request(**request), simulated(spec), CATALOG))


def plain(found: Document) -> dict[str, object]:
    content: dict[str, object] = msgspec.json.decode(msgspec.json.encode(found))
    return content


def test_schema_is_valid_itself() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json_schema()["title"].endswith("(advisor.recommend/1)")


@pytest.mark.parametrize("spec", NAMED)
@pytest.mark.parametrize("use_case", ["chat", "vision", "production"])
def test_document_follows_its_schema(spec: str, use_case: str) -> None:
    VALIDATOR.validate(plain(answer(spec, use_case=use_case)))


def test_every_field_of_the_contract_is_there() -> None:
    content = plain(answer("RTX 4090, 64GB"))
    for path, names in CONTRACT.items():
        value: object = content
        for key in filter(None, path.split(".")):
            value = value[int(key)] if isinstance(value, list) else value[key]  # type: ignore[index]
        assert isinstance(value, dict)
        assert set(names.split()) <= set(value), path


@pytest.mark.parametrize("spec", NAMED)
@pytest.mark.parametrize("use_case", ["chat", "vision", "long-context"])
def test_memory_adds_up(spec: str, use_case: str) -> None:
    for entry in answer(spec, use_case=use_case, min_tokens_per_s=0).recommendations:
        memory = entry.memory
        parts = memory.weights_bytes + memory.kv_cache_bytes + memory.compute_bytes
        assert parts + memory.drafter_bytes + memory.projector_bytes == memory.total_bytes
        assert memory.device_bytes + memory.host_bytes == memory.total_bytes
        assert memory.headroom_bytes >= 0
        # The file, once; beside a discrete GPU the embedding a second time.
        assert entry.file_bytes <= memory.weights_bytes < 1.12 * entry.file_bytes


@pytest.mark.parametrize("spec", NAMED)
def test_speed_is_consistent(spec: str) -> None:
    for entry in answer(spec).recommendations:
        speed = entry.speed
        assert speed.low <= speed.decode_tokens_per_s <= speed.high
        assert speed.decode_tokens_per_s / speed.plain_tokens_per_s == pytest.approx(speed.drafter_gain, rel=0.01)
        assert speed.depth_tokens == 2048
        assert entry.drafter.enabled == (speed.drafter_gain > 1)


def test_depth_is_never_beyond_the_context() -> None:
    assert answer("RTX 4090, 64GB", context_tokens=512).recommendations[0].speed.depth_tokens == 512


def test_time_is_rfc_3339_in_utc() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer("RTX 4090, 64GB").generated_at)


def test_launch_command_repeats_the_choices() -> None:
    command = answer("RTX 4090, 64GB", context_tokens=20000, drafter=False).recommendations[0].command
    assert command == "advisor launch 26b --quant QAT-UD-Q4_K_XL --context 20000 --no-drafter"


@pytest.mark.parametrize(
    ("use_case", "options"),
    [("vision", "--projector"), ("audio", "--projector --backend llama.cpp"), ("coding", "")],
)
def test_launch_command_takes_what_sees_and_hears(use_case: str, options: str) -> None:
    command = answer("RTX 4060 8GB, 32GB", use_case=use_case).recommendations[0].command
    given = launch.make_context("advisor launch", shlex.split(command)[2:]).params
    assert given["projector"] == ("--projector" in options)
    assert command.endswith(options)


# ---- The page


def page(spec: str, *, width: int = 80, encoding: str = "utf-8", colour: bool = False, **request: object) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, force_terminal=colour, highlight=False, markup=False, emoji=False)
    terminal.show(answer(spec, **request), console)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("spec", NAMED)
@pytest.mark.parametrize("use_case", ["chat", "vision"])
def test_page_fits_80_columns(spec: str, use_case: str) -> None:
    shown = page(spec, use_case=use_case)
    assert all(len(line) <= 80 and line == line.rstrip() for line in shown.splitlines())
    for part in ("weights", "KV cache", "compute", "free", "tok/s", "advisor launch"):
        assert part in shown


def test_page_needs_neither_colour_nor_utf_8() -> None:
    shown = page("RTX 4090, 64GB", encoding="ascii")
    assert "# weights" in shown
    assert re.search(r"#{10,}=+\+\*+\.{5,}", shown)


def test_page_is_plain_in_a_pipe() -> None:
    assert "\x1b" not in page("RTX 4090, 64GB")
    assert "\x1b[" in page("RTX 4090, 64GB", colour=True)


@pytest.mark.parametrize("width", [40, 60, 120])
def test_bar_and_words_survive_other_widths(width: int) -> None:
    assert "advisor launch 26b" in page("RTX 4090, 64GB", width=width)


def test_bar_shows_every_part_and_keeps_its_width() -> None:
    assert terminal.lengths([10**10, 1, 0, 10**9], 64) == [57, 1, 0, 6]
    assert sum(terminal.lengths([1, 1, 1], 64)) == 64


# ---- The commands


def run(*words: str) -> tuple[int, str]:
    """Through the group, as users do; advisor's own printer of errors is not in the way of the result."""
    from advisor.cli import cli, shown_error

    result = CliRunner().invoke(cli, words, standalone_mode=False)
    if result.exception and not isinstance(result.exception, SystemExit):
        error = shown_error(result.exception)
        return error.exit_code, f"{error.message} {error.hint}"
    return result.exit_code, result.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--prefer", "qualty"], 2, "quality"),
        (["--use-case", "codng"], 2, "coding"),
        (["--model", "25b"], 2, "26b"),
        (["--backend", "lama.cpp"], 2, "llama.cpp"),
        (["--context", "many"], 2, "context"),
        (["--context", "999999999"], 2, "262144"),
        (["--machine", "none.json", "--simulate", "cpu"], 2, "exclude"),
        (["--machine", "none.json"], 2, "none.json"),
        (["--simulate", "cpu, 1GB"], 3, "needs"),
        (["--nonsense"], 2, "nonsense"),
    ],
)
def test_errors_have_their_exit_code_and_say_what_to_do(words: list[str], code: int, said: str) -> None:
    found, text = run("recommend", *words)
    assert found == code
    assert said in text


@pytest.mark.parametrize("words", [["recommend"], ["estimate", "26b"], ["cost", "26b", "--price-per-hour", "1"]])
def test_nothing_is_reckoned_for_a_runtime_that_reads_checkpoints(words: list[str]) -> None:
    code, text = run(*words, "--backend", "vllm", "--simulate", "RTX 4090, 64GB")
    assert code == 4
    assert "reads checkpoints" in text


def test_json_is_one_document() -> None:
    code, text = run("recommend", "--simulate", "RTX 4090, 64GB", "--prefer", "QUALITY", "--json")
    assert code == 0
    content = msgspec.json.decode(text)
    VALIDATOR.validate(content)
    assert content["recommendations"][0]["model"] == "31b"


def test_backend_asked_for_is_in_request_and_command() -> None:
    _, text = run("recommend", "--simulate", "RTX 4090, 64GB", "--backend", "ollama", "--json")
    content = msgspec.json.decode(text)
    assert content["request"]["backend"] == content["recommendations"][0]["backend"] == "ollama"
    assert "--backend ollama" in content["recommendations"][0]["command"]


def test_schema_command_prints_the_schema() -> None:
    code, text = run("schema")
    assert (code, msgspec.json.decode(text)) == (0, json_schema())


def test_help_has_examples() -> None:
    code, text = run("recommend", "--help")
    assert code == 0
    assert 'advisor recommend --simulate "RTX 4090, 64GB"' in text
