"""`advisor --plain`: the same questions, answers and starts as text."""

from __future__ import annotations

import json
import re

from click.testing import CliRunner

from advisor.machine import Availability
from advisor.tui.plain import converse
from advisor.tui.settings import Settings
from tests.tui.terminal import advisor
from tests.tui.world import LLAMA_CPP, NATIVE, OLLAMA, VLLM, services


def test_plain_asks_the_same() -> None:
    shown = advisor("--plain", given="2\ncoding\n3\n16384\n4\nquality\n5\nRTX 4090, 64GB\n6\n\n1\nq\n")
    assert shown.returncode == 0, shown.stderr
    line = "advisor recommend --use-case coding --context 16384 --prefer quality --simulate 'RTX 4090, 64GB'"
    assert line in shown.stdout
    assert "It cannot be started: this is another machine" in shown.stdout
    assert "vllm: assumed to be current. Does: Gemma 4" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert not re.search("[█▓▒▞─━]", shown.stdout), "a screen reader would spell it out"


def test_plain_survives_nonsense_and_the_end_of_input() -> None:
    shown = advisor("--plain", given="9\n2\nknitting\n3\n-5\n4\nboth\n5\nRTX 409O\n")
    assert shown.returncode == 0
    assert not shown.stderr
    assert "did you mean" in shown.stdout
    assert "The input has ended, and nothing was started." in shown.stdout


def plainly(given: str, *backends: Availability) -> tuple[tuple[str, ...] | None, str]:
    """What the plain wizard is left with, and what it said."""
    with CliRunner().isolation(input=given) as (said, _, _):
        argv = converse(Settings(), services("rtx-4090", backends=backends))
        return argv, said.getvalue().decode()


def test_plain_starts_what_reads_checkpoints_and_the_demo() -> None:
    argv, said = plainly("6\nvllm\ny\n", LLAMA_CPP, VLLM)
    assert argv == ("launch", "12b", "--backend", "vllm")
    assert "Its speed is not predicted." in said
    assert "Model: gemma-4-31B-it, 62.5 GB, from google/gemma-4-31B-it." in said, "as the repositories are outlined"
    assert plainly("7\ny\n", LLAMA_CPP, VLLM)[0] == ("launch", "demo")
    assert plainly("6\nllama.cpp\n7\ny\n", LLAMA_CPP, NATIVE)[0] == ("launch", "demo", "--backend", "llama.cpp")


def test_plain_takes_a_backend_that_is_here_and_says_why_not_another() -> None:
    argv, said = plainly("6\nollama\n6\nnone\n6\nnative\n1\ny\n", LLAMA_CPP, NATIVE, OLLAMA)
    assert "ollama is not taken: no server answers at 127.0.0.1:11434." in said
    assert "unknown backend 'none'" in said
    assert argv is not None
    assert argv[argv.index("--backend") + 1] == "native"


def test_plain_says_the_figures_of_the_shell_line() -> None:
    shown = advisor("--plain", given="5\nRTX 4090, 64GB\nq\n").stdout
    found = json.loads(advisor("recommend", "--json", "--simulate", "RTX 4090, 64GB").stdout)["recommendations"][0]
    assert f"Speed: {found['speed']['decode_tokens_per_s']:.0f} tokens per second" in shown
    assert found["name"] in shown
