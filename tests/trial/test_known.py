"""What was measured feeds everything: recommend, estimate and launch; and nothing that has changed since counts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from math import sqrt
from pathlib import Path
from typing import Any

import msgspec
import pytest

from advisor.choice import curves
from advisor.choice.ranking import Ranking, Request, rank
from advisor.knowledge import catalog
from advisor.machine import Availability, Cpu, Gpu, Machine, Memory
from advisor.pages.report import document
from advisor.prediction import known, measurements
from advisor.prediction.measurements import FileId
from advisor.running import launching, tried
from advisor.running.order import ADAPTS, Order
from tests.launch.conftest import ask
from tests.trial.examples import keep, measurement

CATALOG = catalog.load()
GIB = 1 << 30
HERE = Machine(
    os="linux",
    cpu=Cpu(name="AMD Ryzen 7", cores=8, threads=16, features=("avx2",)),
    memory=Memory(total_bytes=64 * GIB, available_bytes=60 * GIB, bandwidth_bytes_per_s=80 * 10**9),
    gpus=(
        Gpu(
            name="NVIDIA GeForce RTX 4090",
            vendor="nvidia",
            index=0,
            memory_total_bytes=24 * GIB,
            memory_free_bytes=24 * GIB,
            bandwidth_bytes_per_s=1008 * 10**9,
            driver="570.1",
            device="rtx-4090",
        ),
    ),
    backends=(Availability(name="llama.cpp", available=True, version="9600", build="CUDA", drafter=True),),
)
QUANT = "QAT-UD-Q4_K_XL"


def trial(model: str = "12b", quant: str = QUANT, *, plain: float, drafted: float, **more: Any) -> None:
    """Remember a trial on `HERE`: plain decoding and four drafted, at the catalogue's file."""
    file = next(each for each in CATALOG.model(model).quants if each.name == quant)
    verdict = more.pop("verdict", "keep" if drafted > plain else "drop")
    expected = more.pop("expected", {})
    for length, rate in ((0, plain), (4, drafted)):
        keep(
            HERE,
            "llama.cpp",
            model=model,
            quant=quant,
            target=FileId(name=file.file.rpartition("/")[2], size=int(file.bytes), mark="a" * 16),
            placement="gpu",
            depth_tokens=120,
            draft_tokens=length,
            tokens_per_s=rate,
            gain=rate / plain,
            chosen=(length == 4) == (verdict == "keep"),
            verdict=verdict,
            expected_tokens_per_s=expected.get(length),
            **more,
        )


def found(request: Request | None = None) -> Ranking:
    return rank(request or Request(model="12b"), HERE, CATALOG)


def formula(model: str = "12b") -> Any:
    return found(Request(model=model)).recommendations[0].candidate


def test_the_same_file_is_shown_as_measured(store: Path) -> None:
    before = formula()
    fast = 1.2 * before.speed.plain
    trial(quant=before.quant.name, plain=fast, drafted=1.8 * fast)
    ranking = found()
    one = next(each for each in document(ranking).recommendations if each.quant == before.quant.name)
    assert one.basis["decode_tokens_per_s"] == one.basis["plain_tokens_per_s"] == "measured"
    assert one.speed.evidence is not None
    assert one.speed.evidence.kin == "measured"
    # Measured 120 tokens deep, told at 2,048: a little slower, as the formula has it.
    assert 0.9 * fast < one.speed.plain_tokens_per_s < fast
    assert one.speed.drafter_gain == pytest.approx(1.8)
    assert one.drafter.draft_tokens == 4
    assert "measured here on 2026-11-23" in one.drafter.reason
    assert one.speed.evidence.formula_plain == pytest.approx(before.speed.plain, rel=0.01)


def test_a_drafter_that_lost_here_is_not_recommended(store: Path) -> None:
    before = formula()
    assert before.drafter.enabled
    fast = 2.5 * before.speed.plain
    trial(quant=before.quant.name, plain=fast, drafted=0.8 * fast)
    after = next(each.candidate for each in found().recommendations if each.candidate.quant.name == before.quant.name)
    assert not after.drafter.enabled
    assert "measured here" in after.drafter.reason


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"drivers": "nvidia 550.9"}, "driver"),
        ({"build": "9000 CUDA"}, "llama.cpp"),
        ({"machine": "ffffffffffff"}, None),
    ],
)
def test_another_driver_build_or_machine_retires_it(store: Path, change: dict[str, str], why: str | None) -> None:
    before = formula()
    trial(quant=before.quant.name, plain=5.0, drafted=9.0, **change)
    assert formula().speed.decode == before.speed.decode
    assert formula().speed.evidence is None
    if why:
        assert why in known.retired(measurements.recall()[-1], HERE)


def test_another_file_retires_it(store: Path) -> None:
    before = formula()
    trial(quant=before.quant.name, plain=5.0, drafted=9.0)
    content = store.read_bytes()
    store.write_bytes(content.replace(f'"size":{int(before.quant.bytes)}'.encode(), b'"size":12345'))
    assert formula().speed.evidence is None or formula().speed.evidence.kin != "measured"


def test_files_are_the_same_by_their_contents_where_both_are_known() -> None:
    one = FileId(name="a.gguf", size=10, mark="a")
    assert one.same(FileId(name="b.gguf", size=10, mark="a"))
    assert not one.same(FileId(name="a.gguf", size=10, mark="b"))
    assert not one.same(FileId(name="a.gguf", size=11, mark="a"))
    assert one.same(FileId(name="a.gguf", size=10))
    assert not one.same(FileId(name="b.gguf", size=10))


def test_a_relative_corrects_the_formula_in_part(store: Path) -> None:
    other = next(each for each in CATALOG.model("12b").quants if "Q8" in each.name)
    before = formula()
    trial(quant=other.name, plain=30.0, drafted=45.0, expected={0: 60.0, 4: 90.0})
    after = formula()
    assert after.speed.evidence is not None
    assert after.speed.evidence.kin == "relative"
    assert after.speed.plain == pytest.approx(before.speed.plain * 0.5**known.SAME_MODEL)
    assert "0.50 of what it says" in after.speed.evidence.reason
    ranking = document(found())
    assert ranking.recommendations[0].basis["decode_tokens_per_s"] == "formula"


def test_another_size_is_believed_less(store: Path) -> None:
    trial(plain=30.0, drafted=45.0, expected={0: 60.0, 4: 90.0})
    speed = formula("e4b").speed
    assert speed.evidence.kin == "relative"
    assert speed.plain == pytest.approx(speed.evidence.formula_plain * sqrt(0.5))


def test_a_model_of_quite_another_size_is_no_relative(store: Path) -> None:
    """Such as the embedded one: it says what a step takes besides reading weights."""
    before = formula("e4b").speed
    keep(
        HERE,
        "llama.cpp",
        model="demo",
        target=FileId(name="demo.gguf", size=14_000_000, mark="d" * 16),
        placement="gpu",
        tokens_per_s=100.0,
        expected_tokens_per_s=1000.0,
    )
    assert formula("e4b").speed == before


def test_what_others_measured_is_catalogue_data(store: Path) -> None:
    before = formula()
    fast = 1.2 * before.speed.plain
    trial(quant=before.quant.name, plain=fast, drafted=1.8 * fast, source="imported", drivers="", build="1")
    one = document(found()).recommendations[0]
    assert one.basis["plain_tokens_per_s"] == "catalogue"
    assert one.speed.evidence is not None
    assert one.speed.evidence.shared
    trial(quant=before.quant.name, plain=1.5 * fast, drafted=2 * fast)
    one = document(found()).recommendations[0]
    assert one.basis["plain_tokens_per_s"] == "measured"
    assert one.speed.plain_tokens_per_s > fast


def test_nothing_is_said_of_simulated_machines(store: Path) -> None:
    trial(plain=5.0, drafted=9.0)
    assert known.of(msgspec.structs.replace(HERE, simulated=True)) is None


def test_what_is_unclear_leaves_the_drafter_to_the_formula(store: Path) -> None:
    before = formula()
    fast = 1.2 * before.speed.plain
    trial(quant=before.quant.name, plain=fast, drafted=1.01 * fast, verdict="unclear")
    after = next(each.candidate for each in found().recommendations if each.candidate.quant.name == before.quant.name)
    assert after.drafter.enabled == before.drafter.enabled
    assert after.speed.drafter_gain == before.speed.drafter_gain


# ---- Launching


def remember_demo(length: int, verdict: str, **more: Any) -> None:
    setup = launching.configure(Order(model="demo", backend="native"), measured=False)
    for one in (0, 5):
        keep(
            tried.machine_of(setup),
            "native",
            model="demo",
            target=measurements.identify(setup.model.target),
            drafter=measurements.identify(setup.model.drafter or Path()),
            placement="cpu",
            draft_tokens=one,
            gain=1.5,
            chosen=one == length,
            verdict=verdict,
            **more,
        )


def test_launch_drafts_as_many_as_were_best(state: Path) -> None:
    remember_demo(5, "keep")
    setup = launching.configure(Order(model="demo", backend="native"))
    assert setup.model.draft_tokens == 5
    assert setup.drafter_reason == "measured here on 2026-11-23: 1.50 times the speed of plain decoding"
    plan = ask("launch", "demo", "--backend", "native", "--dry-run")
    assert plan["drafter"]["draft_tokens"] == 5
    asked = launching.configure(Order(model="demo", backend="native", draft_tokens=2))
    assert asked.model.draft_tokens == 2


def test_launch_leaves_out_a_drafter_that_lost_unless_it_is_named(state: Path) -> None:
    remember_demo(0, "drop")
    setup = launching.configure(Order(model="demo", backend="native"))
    assert setup.model.drafter is None
    assert "measured here" in setup.drafter_reason
    own = launching.configure(Order(model="demo", backend="native", draft_tokens=3))
    assert own.model.drafter is not None


@pytest.mark.parametrize(("verdict", "more"), [("unclear", {}), ("drop", {"build": "0.0.1 CPU"})])
def test_launch_does_not_heed_what_is_unclear_or_of_another_build(
    state: Path, verdict: str, more: dict[str, str]
) -> None:
    remember_demo(0, verdict, **more)
    setup = launching.configure(Order(model="demo", backend="native"))
    assert setup.model.drafter is not None
    assert setup.model.draft_tokens == ADAPTS


def test_a_trial_that_proves_nothing_takes_nothing_away_from_one_that_did(state: Path) -> None:
    """One that was broken off after a minute, say, or was made beside other work; a newer proof does."""
    remember_demo(5, "keep")
    remember_demo(0, "unclear", date="2026-11-25T12:00:00Z", tokens_per_s=7.0)
    assert launching.configure(Order(model="demo", backend="native")).model.draft_tokens == 5
    told = ask("estimate", "demo", "--backend", "native")
    assert "measured here on 2026-11-23" in told["drafter"]["reason"]
    assert told["speed"]["plain_tokens_per_s"] == pytest.approx(30, rel=0.5)
    remember_demo(0, "drop", date="2026-11-26T12:00:00Z")
    assert launching.configure(Order(model="demo", backend="native")).model.drafter is None


# ---- Cost


def test_recommend_loads_nothing_heavy_for_it(store: Path) -> None:
    trial(plain=50.0, drafted=90.0)
    code = (
        "import sys, json\nimport advisor.prediction.known as known\nimport advisor.knowledge.catalog as catalog\n"
        "from advisor.choice.ranking import Request, rank\n"
        "from advisor.hardware.detection import detect\n"
        "c = catalog.load()\nm = detect(c.devices.values())\n"
        "known.of(m)\n"
        "print(json.dumps([n for n in ('numpy', 'filelock', 'httpx', 'rich', 'tempfile') if n in sys.modules]))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(json.loads(said)) <= {"tempfile"}


def test_a_store_of_many_trials_costs_what_its_own_lines_do(store: Path) -> None:
    """3 ms on a quiet machine; others' lines are not even decoded."""
    for _ in range(20):
        trial(plain=50.0, drafted=90.0)
    alone = cost_of_knowing()
    measurements.keep(*[measurement(kind=f"kind {n}", acceptance=(0.9,) * 8) for n in range(800)])
    assert cost_of_knowing() < 5 * alone


def cost_of_knowing() -> float:
    """Seconds of the processor, the best of several."""
    took = []
    for _ in range(9):
        begun = time.process_time()
        assert known.of(HERE) is not None
        took.append(time.process_time() - begun)
    return min(took)


def test_the_curve_over_depths_goes_through_what_was_measured(store: Path) -> None:
    before = formula()
    terms = found().terms
    fast = 1.5 * before.speed.plain
    trial(quant=before.quant.name, plain=fast, drafted=2 * fast)
    after = next(each.candidate for each in found().recommendations if each.candidate.quant.name == before.quant.name)
    assert after.speed.full > 1.2 * before.speed.full
    for one in (before, after):
        curve = dict(curves.speed_by_depth(one, terms, HERE, CATALOG))
        assert curve[terms.context_tokens] == pytest.approx(one.speed.full)
        assert curve[0] > one.speed.full
