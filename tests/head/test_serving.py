"""A service for many users: what is proposed where, and whether the figures are those that others published."""

from __future__ import annotations

import io
import itertools
import json
from typing import NamedTuple

import jsonschema
import msgspec
import pytest
from rich.console import Console

from advisor.choice.ranking import Ranking, Request, rank
from advisor.errors import NoBackend
from advisor.hardware import simulate
from advisor.knowledge import catalog
from advisor.machine import Availability
from advisor.memory.room import cards_of
from advisor.pages import terminal
from advisor.pages.report import document, json_schema
from advisor.prediction import concurrency
from advisor.running.launching import configure
from advisor.running.order import Order
from advisor.services import serving
from advisor.services.rack import Rack
from advisor.services.service import Service

CATALOG = catalog.load()


def ranking(spec: str, **request) -> Ranking:
    return rank(Request(use_case="production", **request), simulate.parse(spec, CATALOG), CATALOG)


def service(spec: str, **request) -> Service:
    found = document(ranking(spec, **request)).service
    assert found is not None
    return found


def rack(spec: str, model: str, quant: str, cards: int, **changes) -> Rack:
    machine = simulate.parse(spec, CATALOG)
    profile = CATALOG.models[model]
    found = next(one for one in profile.checkpoints if one.name == quant and "vllm" in one.runtimes)
    terms = msgspec.structs.replace(ranking(spec).terms, context_tokens=4096)
    return Rack(
        model=profile,
        found=msgspec.structs.replace(found, **changes),
        cards=cards_of(machine)[:cards],
        terms=terms,
        runtime=CATALOG.runtimes["vllm"],
        machine=machine,
        catalog=CATALOG,
    )


# ---- What is proposed


@pytest.mark.parametrize(
    ("spec", "backend", "model"),
    [
        ("8x H100 SXM, 512GB", "vllm", "31b"),
        ("2x RTX 3090, 128GB", "vllm", "31b"),
        ("RTX 4090, 64GB", "llama.cpp", "26b"),
        ("M3 Max 64GB", "llama.cpp", "26b"),
        ("cpu, 32GB", "llama.cpp", "e2b"),
    ],
)
def test_vllm_where_it_serves_the_better_model(spec: str, backend: str, model: str) -> None:
    found = service(spec)
    assert (found.backend, found.model) == (backend, model)
    assert found.reasons[0].startswith("vLLM")


def test_one_person_needs_no_service() -> None:
    machine = simulate.parse("8x H100 SXM, 512GB", CATALOG)
    assert document(rank(Request(use_case="chat"), machine, CATALOG)).service is None


def test_sglang_where_it_alone_is_installed() -> None:
    machine = simulate.parse("2x H100 SXM, 256GB", CATALOG)
    here = Availability(name="sglang", available=True, reads="checkpoint")
    machine = msgspec.structs.replace(machine, backends=(here,))
    found = document(rank(Request(use_case="production"), machine, CATALOG)).service
    assert found is not None
    assert (found.backend, found.backend_available) == ("sglang", True)


def refused(backend: str, spec: str, **request) -> NoBackend:
    with pytest.raises(NoBackend) as found:
        serving.check(Request(backend=backend, **request), simulate.parse(spec, CATALOG), CATALOG)
    return found.value


def test_a_runtime_that_reads_checkpoints_is_not_recommended_but_said_what_it_would_run() -> None:
    error = refused("vllm", "H100 SXM, 256GB")
    assert "room here for Gemma 4 31B BF16" in error.hint
    assert "tokens/s for one user" in error.hint
    assert error.command == "advisor launch 31b --backend vllm --dry-run"
    assert "not for 31b, but for" in refused("sglang", "RTX 4090, 64GB", model="31b").hint
    assert "tokens/s" not in refused("mlx", "M3 Max 64GB").hint, "nothing is known of it"
    assert "advisor launch 12b --backend mlx" in refused("mlx", "cpu, 4GB").command


def test_a_service_weighs_them_by_itself() -> None:
    assert (
        refused("vllm", "H100 SXM, 256GB", use_case="production").command == "advisor recommend --use-case production"
    )


def test_a_backend_that_was_asked_for_stays() -> None:
    found = service("8x H100 SXM, 512GB", backend="llama.cpp")
    assert found.backend == "llama.cpp"
    assert "asked for" in found.reasons[0]


@pytest.mark.parametrize("spec", ["8x H100 SXM, 512GB", "2x RTX 3090, 128GB", "4x A10G, 128GB", "RTX PRO 6000, 256GB"])
def test_its_command_starts_what_was_reckoned(spec: str) -> None:
    found = service(spec)
    words = found.command.split()
    parallel = int(words[words.index("--parallel") + 1])
    assert parallel == found.loads[-1].users <= found.sequences
    order = Order(
        machine=simulate.parse(spec, CATALOG), model=found.model, backend=found.backend, quant=found.quant,
        context=found.context_tokens, parallel=parallel,
    )  # fmt: skip
    setup = configure(order, strict=False)
    assert tuple(gpu.index for gpu in setup.options.gpus) == found.gpus
    assert setup.options.sequences == parallel


# ---- What it carries


def test_the_cache_limits_conversations() -> None:
    short, long = (
        service("8x H100 SXM, 512GB", context_tokens=8192),
        service("8x H100 SXM, 512GB", context_tokens=65536),
    )
    assert short.sequences > 3 * long.sequences > 0
    assert long.cache_bytes_per_sequence * long.sequences <= long.cache_bytes


def test_more_users_get_more_together_and_less_each() -> None:
    for spec in ("8x H100 SXM, 512GB", "2x RTX 3090, 128GB", "cpu, 32GB", "M3 Max 64GB"):
        loads = service(spec).loads
        assert [one.users for one in loads] == sorted({one.users for one in loads})
        for fewer, more in itertools.pairwise(loads):
            assert more.plain_tokens_per_s > fewer.plain_tokens_per_s
            assert more.each < fewer.each
            assert more.drafter_gain <= fewer.drafter_gain
        for one in loads:
            assert one.low < one.tokens_per_s < one.high
            assert one.high > 1.5 * one.low, "nothing of this was measured here"


def test_users_get_the_speed_that_was_asked_for() -> None:
    found = service("8x RTX PRO 6000, 512GB", min_tokens_per_s=40)
    at = next(one for one in found.loads if one.users == found.users)
    assert at.each >= 40
    assert found.users < found.sequences
    assert all(one.each < 40 for one in found.loads if one.users > found.users)


def test_gains_published_for_load() -> None:
    """Callstack's article of 2026 on google/gemma-4-31B-it with vLLM and the assistant, two RTX PRO 6000 (Blackwell
    Server Edition) and tensors divided: 2.48x with one request, 1.92x with 10 at once, 1.09x with 100."""
    two = rack("2x RTX PRO 6000, 256GB", "31b", "BF16", 2)
    for users, published in ((1, 2.48), (10, 1.92), (100, 1.09)):
        assert two.load(users).drafter_gain == pytest.approx(published, rel=0.3), users


class Published(NamedTuple):
    """Output tokens per second of all `users` together, at about `depth` tokens of text each."""

    rack: Rack
    depth: int
    users: int
    tokens_per_s: float


PLAIN = {"drafter": "", "drafter_bytes": 0}
PUBLISHED = {
    # HexGrid's benchmark of 2026: vLLM 0.20, ShareGPT (about 400 tokens in and 400 out), 14 to 21 requests at once.
    "31B in FP8": Published(rack("RTX PRO 6000, 256GB", "31b", "BF16", 1, bytes=33_000_000_000, **PLAIN), 600, 18, 548),
    # 0xBakeer/inference-atlas#14: vLLM 0.27.1, 1,024 tokens in and 256 out, 32 sequences at most.
    "E2B": Published(rack("GB10, 128GB", "e2b", "BF16", 1, **PLAIN), 1152, 32, 890),
    # An audit of 2026-04-30 in air-gapped/skills (vllm-gemma-4-31b): AWQ, vLLM 0.20, MT-Bench; its drafter is EAGLE 3
    # with three drafts, half of them right.
    "31B in four bits, drafted": Published(rack("H100 SXM, 256GB", "31b", "QAT-W4A16", 1), 500, 20, 1382),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_throughput_published_for_load(name: str) -> None:
    known = PUBLISHED[name]
    terms = msgspec.structs.replace(known.rack.terms, context_tokens=known.depth)
    found = msgspec.structs.replace(known.rack, terms=terms).load(known.users)
    print(f"{found.tokens_per_s:.0f} predicted ({found.low:.0f} to {found.high:.0f}), {known.tokens_per_s} published")
    assert found.low < known.tokens_per_s < found.high
    assert 1 / 1.5 < found.tokens_per_s / known.tokens_per_s < 1.5


def test_one_estimator() -> None:
    """The shares that costs are reckoned with give what they gave."""
    step = concurrency.assumed(on_gpu=True)
    assert concurrency.rate(100, step, 4) == pytest.approx(400 / 1.36)
    assert concurrency.gain(2.0, step, 1, 3) == pytest.approx(2.0)
    assert concurrency.gain(2.0, step, 4, 3) == pytest.approx(2.0 * 1.36 / (2.8 / 1.36))


# ---- How it is told


def test_the_schema_knows_it() -> None:
    found = json.loads(msgspec.json.encode(document(ranking("2x RTX 3090, 128GB"))))
    jsonschema.validate(found, json_schema())
    assert found["service"]["basis"]["loads"] == "assumed"
    assert found["service"]["loads"][0]["users"] == 1


def test_the_page_tells_basis_and_command() -> None:
    out = io.StringIO()
    terminal.show(document(ranking("2x RTX 3090, 128GB")), Console(file=out, width=100))
    text = out.getvalue()
    assert "For many users  Gemma 4 31B" in text
    assert "assumed" in text
    assert service("2x RTX 3090, 128GB").command in text


def test_what_is_missing_is_said() -> None:
    made = simulate.parse("H100 SXM, 256GB", CATALOG)
    here = msgspec.structs.replace(made, simulated=False)
    found = document(rank(Request(use_case="production"), here, CATALOG)).service
    assert found is not None
    assert any("pip install vllm" in one for one in found.reasons)
