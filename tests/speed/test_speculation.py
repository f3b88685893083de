"""Costs and acceptance: what must hold whatever the numbers are, and how they meet what was measured."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.choice.candidates import WORTHWHILE_GAIN
from advisor.prediction import speculation, speed
from advisor.prediction.speculation import at_temperature, processor_cost, repacked_cost
from tests.head.machines import real, simulated
from tests.head.test_speed import CATALOG, setup


def gain(spec: str, model: str, kind: str, quant: str = "QAT-UD-Q4_K_XL") -> float:
    drafter = CATALOG.models[model].drafter
    file = min((file for file in drafter.files if file.qat), key=lambda file: file.bytes)
    return speed.predict(setup(model, quant, simulated(spec)), drafter, file, kind).drafter_gain


@given(st.floats(0, 1), st.floats(0, 3), st.floats(0, 3))
def test_hotter_is_never_accepted_more(acceptance: float, one: float, other: float) -> None:
    cool, hot = sorted((one, other))
    assert 0 <= at_temperature(acceptance, hot) <= at_temperature(acceptance, cool) <= 1


def test_usual_temperature_is_what_the_catalogue_is_for() -> None:
    assert at_temperature(0.8, speculation.USUAL_TEMPERATURE) == pytest.approx(0.8)


@given(st.integers(1, 32), st.floats(0, 1))
def test_weights_that_are_not_repacked_make_rows_dearer(rows: int, share: float) -> None:
    assert processor_cost(1, share) == pytest.approx(1)
    assert processor_cost(rows, share) >= min(repacked_cost(rows), processor_cost(rows, 0)) - 1e-9


def test_code_gains_more_than_stories_everywhere() -> None:
    for spec in ("RTX 3090, 64GB", "M4 Max 64GB", "Strix Halo 128GB"):
        for model in CATALOG.models:
            assert gain(spec, model, "code") >= gain(spec, model, "story"), (spec, model)


def test_the_mixture_gains_less_than_the_dense_models() -> None:
    """Every further token wakes further experts."""
    for spec in ("RTX 3090, 64GB", "Strix Halo 128GB"):
        assert gain(spec, "26b", "chat") < gain(spec, "12b", "chat") < gain(spec, "31b", "chat")


def test_mixture_drafts_one_to_three_and_dense_models_more() -> None:
    """Measured on a Strix Halo: the mixture is fastest at 2, dense models at 4."""
    for model, few, many in (("26b", 1, 3), ("31b", 3, 6)):
        drafter = CATALOG.models[model].drafter
        found = speed.predict(
            setup(model, "QAT-Q4_0", simulated("Strix Halo 128GB")), drafter, drafter.files[0], "chat"
        )
        assert few <= found.draft_tokens <= many


@pytest.mark.parametrize("model", ["e2b", "e4b"])
@pytest.mark.parametrize("spec", ["RTX 4090, 64GB", "M4 Max 64GB", "RTX 3060 12GB, 32GB"])
def test_small_models_gain_little(spec: str, model: str) -> None:
    """1.0 to 1.3 is typical of reports; 1.86 the most that a vendor claims."""
    assert 1.0 <= gain(spec, model, "chat") <= 1.45
    assert gain(spec, model, "code") <= 1.6


def test_few_cores_draft_in_fours_or_not_at_all() -> None:
    drafter = CATALOG.models["e4b"].drafter
    found = speed.predict(
        setup("e4b", "QAT-UD-Q4_K_XL", real(cores=2, bandwidth=40e9), mode="cpu"), drafter, drafter.files[0], "code"
    )
    assert found.draft_tokens in (0, 3, 7)
    assert found.drafter_gain < 1.6


def test_weights_without_multi_row_kernels_gain_less_on_a_processor() -> None:
    machine = real(cores=2, bandwidth=40e9)
    drafter = CATALOG.models["12b"].drafter
    packed, plain = (
        speed.predict(setup("12b", quant, machine, mode="cpu"), drafter, drafter.files[0], "code").drafter_gain
        for quant in ("QAT-UD-Q4_K_XL", "Q8_0")
    )
    assert plain < packed


def test_a_hard_text_on_a_slow_verifier_is_not_drafted() -> None:
    drafter = msgspec.structs.replace(CATALOG.models["26b"].drafter, acceptance={"chat": 0.2})
    found = speed.predict(setup("26b", "QAT-UD-Q4_K_XL", simulated("M1 Max 64GB")), drafter, drafter.files[0], "chat")
    assert found.drafter_gain < WORTHWHILE_GAIN
    assert found.draft_tokens in (0, 1)


def test_drafting_gains_less_deep_in_a_text() -> None:
    """The cache is read for every row that is verified."""
    drafter = CATALOG.models["12b"].drafter
    shallow, deep = (
        speed.predict(
            setup("12b", "QAT-UD-Q4_K_XL", simulated("RTX 4070, 32GB"), depth=depth), drafter, drafter.files[0], "chat"
        ).drafter_gain
        for depth in (0, 120_000)
    )
    assert deep < shallow
