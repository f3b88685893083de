"""What stands beside the pick: roles, trades, the next step, what a backend cannot do, the article's four places."""

from __future__ import annotations

import msgspec
import pytest

from advisor.choice import estimate
from advisor.choice.ranking import Ranking, Request, rank
from advisor.choice.subject import from_catalogue
from advisor.errors import NoBackend, NothingFits, UsageError
from advisor.knowledge.catalog import load
from advisor.machine import Availability, Machine
from tests.head.machines import NAMED, real, simulated

CATALOG = load()
NATIVE = Availability(name="native", available=True, version="0.3.36", drafter=True)
OLLAMA = Availability(name="ollama", available=True, version="0.35.0", drafter=True)


def ask(machine: Machine | str, **request: object) -> Ranking:
    return rank(Request(**request), simulated(machine) if isinstance(machine, str) else machine, CATALOG)


class TestRoles:
    @pytest.mark.parametrize("spec", NAMED)
    @pytest.mark.parametrize("prefer", ["balanced", "quality", "speed"])
    def test_each_role_is_held_once_and_by_one_that_deserves_it(self, spec: str, prefer: str) -> None:
        entries = ask(spec, prefer=prefer).recommendations
        held = [role for entry in entries for role in entry.roles]
        assert sorted(held) == ["balanced", "best", "fastest", "pick"]
        assert entries[0].roles[0] == "pick"
        for entry in entries[1:]:
            one, pick = entry.candidate, entries[0].candidate
            assert "best" not in entry.roles or one.quality > 1.01 * pick.quality
            assert "fastest" not in entry.roles or one.speed.decode > 1.15 * pick.speed.decode

    def test_the_fastest_is_the_fastest_of_all_that_runs(self) -> None:
        answer = ask("RTX 4090, 64GB")
        fastest = next(entry for entry in answer.recommendations if "fastest" in entry.roles)
        assert fastest.candidate.model.id == "e2b"
        assert "Q4" in fastest.candidate.quant.name

    def test_balance_is_offered_to_those_who_ask_for_speed(self) -> None:
        roles = {
            entry.candidate.model.id: entry.roles
            for entry in ask("RTX 3060 12GB, 32GB", prefer="speed").recommendations
        }
        assert "balanced" in roles["12b"]


class TestTrades:
    def test_a_larger_file_or_the_drafter(self) -> None:
        said = " ".join(ask("RTX 3090, 64GB", use_case="chat", model="12b").trades)
        assert "with its drafter runs at" in said
        assert "without one at" in said

    def test_qat_or_ptq(self) -> None:
        said = " ".join(ask("RTX 4060 Ti 16GB, 32GB").trades)
        assert "QAT keeps 97.5% of the quality in 14.2 GB" in said
        assert "UD-Q4_K_M" in said

    def test_all_on_the_gpu_or_experts_beside_it(self) -> None:
        said = " ".join(ask("RTX 3060 12GB, 32GB").trades)
        assert "12B all on the GPU" in said
        assert "26B-A4B with the experts of" in said

    def test_experts_are_not_moved_for_a_larger_file_of_what_fits(self) -> None:
        assert not any("experts" in line for line in ask("2x RTX 3090, 128GB", prefer="quality").trades)

    def test_nothing_is_said_where_there_is_no_choice(self) -> None:
        assert not any("experts" in line for line in ask("Raspberry Pi 5 8GB").trades)


class TestNextStep:
    @pytest.mark.parametrize(
        ("spec", "model", "hardware"),
        [
            ("RTX 4060, 16GB", None, None),
            ("RTX 3060 12GB, 32GB", "26b", "16GB"),
            ("M2 16GB", "26b", "24GB"),
            ("cpu, 16GB", "26b", "32.0 GiB of main memory"),
            ("Raspberry Pi 5 8GB", None, "a PC"),
            ("H100 SXM, 256GB", "31b", None),
        ],
    )
    def test_it_is_a_better_model_on_hardware_that_can_be_bought(
        self, spec: str, model: str | None, hardware: str | None
    ) -> None:
        answer = ask(spec)
        step, pick = answer.next_step, answer.recommendations[0].candidate
        if step is None:
            assert pick.model.id == "31b"
            return
        assert step.quality_gain > 1.02
        assert model in (None, step.model)
        assert hardware is None or hardware in step.hardware
        assert step.decode_tokens_per_s >= answer.terms.min_tokens_per_s

    def test_a_request_for_one_model_has_none(self) -> None:
        assert ask("RTX 3060 12GB, 32GB", model="12b").next_step is None


class TestRejections:
    @pytest.mark.parametrize("spec", NAMED)
    def test_every_model_is_recommended_or_rejected_with_a_sentence(self, spec: str) -> None:
        answer = ask(spec, use_case="audio")
        shown = {entry.candidate.model.id for entry in answer.recommendations}
        left_out = {one.model for one in answer.rejected}
        assert shown | left_out == set(CATALOG.models)
        assert {"26b", "31b"} <= {one.model for one in answer.rejected if one.code == "capability"}
        assert all(len(one.reason) > 10 for one in answer.rejected)

    def test_256k_is_beyond_the_small_ones(self) -> None:
        answer = ask("RTX 5090, 128GB", context_tokens=200_000)
        found = {one.model: one for one in answer.rejected if one.code == "capability"}
        assert "131,072" in found["e2b"].reason
        assert {"e2b", "e4b"} <= set(found)

    def test_a_context_beyond_every_model(self) -> None:
        with pytest.raises(UsageError, match="262144"):
            ask("RTX 5090, 128GB", context_tokens=1_000_000)

    def test_audio_with_a_context_that_no_hearing_model_reaches(self) -> None:
        with pytest.raises(NothingFits, match="reaches 131,072"):
            ask("RTX 5090, 128GB", use_case="audio", context_tokens=200_000, model="e4b")


class TestBackends:
    @pytest.mark.parametrize(("backend", "use_case"), [("native", "vision"), ("native", "audio"), ("ollama", "audio")])
    def test_one_that_cannot_take_it_in(self, backend: str, use_case: str) -> None:
        with pytest.raises(NoBackend, match="takes no") as raised:
            ask(real(NATIVE, OLLAMA), backend=backend, use_case=use_case)
        assert raised.value.exit_code == 4
        assert "llama.cpp" in raised.value.command

    def test_what_only_the_idle_gpu_could_hold_is_the_backends_fault(self) -> None:
        machine = msgspec.structs.replace(real(NATIVE, memory=16), gpus=simulated("RTX 4090, 16GB").gpus)
        answer = ask(machine)
        found = [one for one in answer.rejected if one.code == "backend"]
        assert {"26b", "31b"} & {one.model for one in found}
        assert all("native runs on the processor only" in one.reason for one in found)

    def test_where_nothing_else_is_left_it_is_an_error_of_the_backend(self) -> None:
        machine = msgspec.structs.replace(real(NATIVE, memory=8), gpus=simulated("RTX 4090, 16GB").gpus)
        with pytest.raises(NoBackend, match="processor and main memory only") as raised:
            ask(machine, model="31b", backend="native")
        assert raised.value.exit_code == 4

    def test_too_slow_without_the_gpu_is_its_fault_too(self) -> None:
        machine = msgspec.structs.replace(real(NATIVE, memory=64), gpus=simulated("RTX 4090, 64GB").gpus)
        answer = ask(machine, use_case="coding", backend="native")
        assert any(one.model == "31b" and one.code == "backend" and "tok/s" in one.reason for one in answer.rejected)
        with pytest.raises(NoBackend):
            ask(machine, use_case="coding", backend="native", model="31b", min_tokens_per_s=20)

    def test_without_being_asked_for_another_one_is_assumed(self) -> None:
        answer = ask(real(NATIVE), use_case="vision")
        assert answer.terms.backend.name == "llama.cpp"
        assert any("native cannot do this" in line for line in answer.recommendations[0].warnings)


class TestSlowGpus:
    def test_an_old_card_in_a_server_is_left_out(self) -> None:
        card = msgspec.structs.replace(simulated("GTX 1050 Ti, 64GB").gpus[0], bandwidth_bytes_per_s=112_000_000_000)
        server = real(memory=256, cores=64, bandwidth=460e9)
        found = ask(msgspec.structs.replace(server, gpus=(card,))).recommendations[0]
        assert found.candidate.placement.mode == "cpu"
        assert any("left out" in line for line in found.warnings)

    def test_in_a_desktop_it_is_used(self) -> None:
        assert ask("GTX 1080 Ti, 32GB").recommendations[0].candidate.placement.mode == "gpu"


class TestTheArticlesPlaces:
    """May 2026: its answers where its reasons hold, and what has overruled them since."""

    def said(self, spec: str, use_case: str) -> str:
        return " ".join(ask(spec, use_case=use_case).recommendations[0].reasons)

    def test_mobile(self) -> None:
        assert "names E2B or E4B here too" in self.said("Raspberry Pi 5 8GB", "mobile")

    def test_desktop_with_16_gb_of_graphics_memory(self) -> None:
        said = self.said("RTX 4060 Ti 16GB, 32GB", "desktop")
        assert "names E4B here; since June the QAT file of 26B-A4B needs only" in said

    def test_desktop_with_12_gb(self) -> None:
        assert "it did not know 12B, which came in June" in self.said("RTX 3060 12GB, 32GB", "desktop")

    def test_production(self) -> None:
        said = self.said("L4, 64GB", "production")
        assert "names 26B here too, but not for its drafter" in said
        assert "each verified token wakes more experts" in said

    def test_maximum_quality(self) -> None:
        assert "names 31B here too" in self.said("RTX 4090, 64GB", "max-quality")

    def test_elsewhere_it_is_not_mentioned(self) -> None:
        assert "article" not in self.said("RTX 4090, 64GB", "chat")


class TestSeveralCards:
    def unlike(self) -> Machine:
        """An RTX 4090 beside an old GTX 1080 Ti, the slow one first."""
        fast, slow = simulated("RTX 4090, 64GB"), simulated("GTX 1080 Ti, 64GB")
        cards = (slow.gpus[0], msgspec.structs.replace(fast.gpus[0], index=1))
        return msgspec.structs.replace(fast, gpus=cards)

    def test_what_fits_the_fastest_card_is_not_slowed_down_by_another(self) -> None:
        both, alone = (
            ask(machine, model="26b").recommendations[0].candidate for machine in (self.unlike(), "RTX 4090, 64GB")
        )
        assert both.gpus == (1,)
        assert both.speed.decode == alone.speed.decode

    def test_what_does_not_is_spread(self) -> None:
        entry = ask("2x RTX 3090, 128GB", model="31b", prefer="quality").recommendations[0]
        assert "Q8" in entry.candidate.quant.name
        assert entry.candidate.gpus == (0, 1)

    def test_an_estimate_places_as_the_recommendation_does(self) -> None:
        machine = self.unlike()
        pick = rank(Request(model="26b"), machine, CATALOG).recommendations[0].candidate
        about = from_catalogue(CATALOG.model("26b"), pick.quant.name)
        asked = estimate.question(about, msgspec.structs.replace(NATIVE, name="llama.cpp"))
        found = estimate.attempt(about, asked, None, estimate.site(asked, machine, CATALOG))
        assert found.gpus == pick.gpus == (1,)
        assert found.placement.mode == "gpu"
