"""Rankings that can be followed; which pick is right where is in `tests/picks/golden.yaml`."""

import msgspec
import pytest

from advisor.choice.candidates import Candidate
from advisor.choice.ranking import Ranking, Request, rank
from advisor.choice.score import score
from advisor.errors import NoBackend, NothingFits, UsageError
from advisor.knowledge.catalog import load
from advisor.machine import Availability, Machine
from tests.head.machines import GIB, NAMED, real, simulated

CATALOG = load()
LLAMA_CPP = Availability(name="llama.cpp", available=True, version="b10605", drafter=True)
OLD_LLAMA_CPP = Availability(name="llama.cpp", available=True, version="b9000", drafter=False)
OLLAMA = Availability(name="ollama", available=True, version="0.35.0", drafter=True)
NATIVE = Availability(name="native", available=True, version="0.3.36", drafter=True)
NO_OLLAMA = Availability(name="ollama", available=False, why_not="no server answers", hint="Start it: ollama serve")


def ask(machine: Machine | str, **request: object) -> Ranking:
    return rank(Request(**request), simulated(machine) if isinstance(machine, str) else machine, CATALOG)


def pick(machine: Machine | str, **request: object) -> Candidate:
    return ask(machine, **request).recommendations[0].candidate


@pytest.mark.parametrize("spec", NAMED)
@pytest.mark.parametrize("prefer", ["balanced", "quality", "speed"])
def test_every_answer_is_one_that_can_be_followed(spec: str, prefer: str) -> None:
    answer = ask(spec, prefer=prefer)
    models = [entry.candidate.model.id for entry in answer.recommendations]
    assert len(models) == len(set(models)), "one entry per model"
    assert [entry.rank for entry in answer.recommendations] == list(range(1, len(models) + 1))
    for entry in answer.recommendations:
        found = entry.candidate
        assert found.speed.decode >= answer.terms.min_tokens_per_s
        assert found.placement.headroom_bytes >= 0
        assert "Q2" not in found.quant.name
        assert not found.drafter.enabled or found.speed.drafter_gain >= 1.03
        assert entry.reasons


def test_two_cores_and_24_gb_get_something_usable() -> None:
    """A rented machine without a GPU: no 0.9 tok/s pick."""
    for use_case in ("chat", "coding", "agents", "desktop"):
        found = pick(real(LLAMA_CPP, memory=24, cores=2, bandwidth=20e9), use_case=use_case)
        assert found.speed.decode >= 3, use_case
        assert found.model.id in ("e2b", "e4b", "26b")


def test_two_bits_are_never_recommended() -> None:
    """31B at 2 bits would fit 16 GB; 26B at 4 bits answers better."""
    answer = ask("RTX 4060 Ti 16GB, 32GB", prefer="quality")
    assert all("Q2" not in entry.candidate.quant.name for entry in answer.recommendations)
    assert ("31b", "UD-Q2_K_XL", "capability") in {(one.model, one.quant, one.code) for one in answer.rejected}


def test_qat_targets_get_qat_drafters() -> None:
    for entry in ask("RTX 4090, 64GB", prefer="quality").recommendations:
        found = entry.candidate
        assert found.drafter.file is not None
        assert found.drafter.file.qat == found.quant.qat


def test_drafter_never_pushes_a_model_off_the_gpu() -> None:
    found = next(
        entry.candidate
        for entry in ask("RTX 4060 Ti 16GB, 32GB", use_case="coding").recommendations
        if entry.candidate.model.id == "26b"
    )
    assert found.placement.mode == "gpu"
    assert not found.drafter.enabled
    assert "off the GPU" in found.drafter.reason
    assert found.speed.decode == found.speed.plain


def test_no_drafter_is_honoured() -> None:
    found = pick("RTX 4090, 64GB", drafter=False)
    assert (found.drafter.enabled, found.load.drafter, found.speed.drafter_gain) == (False, None, 1.0)


def test_projector_counts_where_images_are_read() -> None:
    assert pick("RTX 4090, 64GB", use_case="vision", model="26b").load.projector == 1_193_058_784
    assert pick("RTX 4090, 64GB").load.projector == 0


def test_rejections_say_why() -> None:
    answer = ask("cpu, 16GB", context_tokens=200_000, min_tokens_per_s=0)
    codes = {(one.model, one.code) for one in answer.rejected}
    assert ("e2b", "capability") in codes
    assert ("31b", "memory") in codes
    slow = ask("Raspberry Pi 5 8GB")
    assert any(one.code == "speed" and "tok/s" in one.reason for one in slow.rejected)


def test_nothing_fits_says_what_it_would_take() -> None:
    with pytest.raises(NothingFits, match=r"needs .* GiB; .* can be used") as raised:
        ask("cpu, 2GB")
    assert raised.value.exit_code == 3


def test_nothing_fits_offers_the_context_that_would() -> None:
    with pytest.raises(NothingFits) as raised:
        ask("RTX 4090, 8GB", model="31b", context_tokens=262_144, backend="native")
    assert "smaller model" in raised.value.hint
    with pytest.raises(NothingFits) as raised:
        ask("cpu, 4GB", context_tokens=131_072)
    assert raised.value.command.startswith("advisor recommend --use-case chat --context ")
    shorter = int(raised.value.command.rpartition(" ")[2])
    assert ask("cpu, 4GB", context_tokens=shorter).recommendations


def test_speed_that_nothing_reaches() -> None:
    with pytest.raises(NothingFits, match="the fastest is") as raised:
        ask("Raspberry Pi 5 8GB", min_tokens_per_s=100)
    assert "--min-speed" in raised.value.command


def test_use_cases_floor_gives_way_but_is_named() -> None:
    answer = ask("Raspberry Pi 5 8GB", use_case="production")
    assert any("slower than the 20 tok/s" in warning for warning in answer.recommendations[0].warnings)


class TestBackends:
    def test_llama_cpp_first(self) -> None:
        assert ask(real(NATIVE, OLLAMA, LLAMA_CPP)).terms.backend == LLAMA_CPP
        assert ask(real(NATIVE, OLLAMA)).terms.backend == OLLAMA
        assert ask(real(NATIVE, NO_OLLAMA)).terms.backend == NATIVE

    def test_a_plugin_comes_last(self) -> None:
        plugin = Availability(name="mine", available=True)
        assert ask(real(plugin)).terms.backend == plugin
        assert ask(real(plugin, NATIVE)).terms.backend == NATIVE

    def test_the_one_asked_for(self) -> None:
        assert ask(real(NATIVE, LLAMA_CPP), backend="native").terms.backend == NATIVE

    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(NoBackend, match="no server answers") as raised:
            ask(real(NATIVE, NO_OLLAMA), backend="ollama")
        assert raised.value.hint == "Start it: ollama serve"

    def test_an_unknown_one(self) -> None:
        with pytest.raises(UsageError) as raised:
            ask("cpu, 32GB", backend="olama")
        assert "ollama" in raised.value.hint

    def test_one_too_old_for_drafters(self) -> None:
        found = pick(real(OLD_LLAMA_CPP))
        assert not found.drafter.enabled
        assert found.load.drafter is None
        assert "b9000 does not run" in found.drafter.reason

    def test_simulated_machines_have_a_current_llama_cpp(self) -> None:
        answer = ask("RTX 4090, 64GB")
        assert answer.terms.backend.name == "llama.cpp"
        assert "a current llama.cpp is assumed as the backend" in answer.recommendations[0].warnings

    def test_native_leaves_the_gpu_idle_and_says_so(self) -> None:
        machine = msgspec.structs.replace(real(NATIVE, memory=64), gpus=simulated("RTX 4090, 64GB").gpus)
        entry = ask(machine).recommendations[0]
        assert entry.candidate.placement.mode == "cpu"
        assert any("install llama.cpp" in warning for warning in entry.warnings)


@pytest.mark.parametrize(
    "request_",
    [
        {"use_case": "cooking"},
        {"model": "27b"},
        {"context_tokens": 0},
        {"context_tokens": 1 << 40},
        {"min_tokens_per_s": -1.0},
        {"min_tokens_per_s": float("nan")},
        {"min_tokens_per_s": float("inf")},
    ],
)
def test_impossible_requests(request_: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ask("RTX 4090, 64GB", **request_)


def test_more_memory_never_gives_a_worse_answer() -> None:
    answers = [ask(f"cpu, {size}GB", prefer="quality", min_tokens_per_s=0) for size in (4, 8, 12, 16, 24, 32, 64)]
    worth = [score(answer.recommendations[0].candidate, answer.terms) for answer in answers]
    assert worth == sorted(worth)


def test_gpu_budget_holds_for_real_free_memory() -> None:
    """Another program holds most of the card: the pick shrinks instead of overflowing."""
    card = msgspec.structs.replace(simulated("RTX 4090, 64GB").gpus[0], memory_free_bytes=6 * GIB)
    machine = msgspec.structs.replace(real(LLAMA_CPP, memory=64), gpus=(card,))
    for entry in ask(machine).recommendations:
        assert entry.candidate.placement.device_bytes <= 5 * GIB


def test_one_file_of_one_model() -> None:
    answer = ask("RTX 4090, 64GB", model="12b", quant="q8_0")
    assert [(one.candidate.model.id, one.candidate.quant.name) for one in answer.recommendations] == [("12b", "Q8_0")]
    assert not any("best of what runs" in reason for reason in answer.recommendations[0].reasons)
    for wrong in ({"quant": "Q8_0"}, {"model": "12b", "quant": "Q9"}):
        with pytest.raises(UsageError):
            ask("RTX 4090, 64GB", **wrong)


def test_everything_that_runs_is_kept() -> None:
    answer = ask("RTX 4090, 64GB")
    files = {(one.model.id, one.quant.name) for one in answer.running}
    rejected = {(one.model, one.quant) for one in answer.rejected}
    every = {(model.id, quant.name) for model in CATALOG.models.values() for quant in model.quants}
    assert files | rejected == every
    assert not files & rejected
    assert answer.running[0] is answer.recommendations[0].candidate
