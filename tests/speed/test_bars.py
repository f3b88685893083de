"""The bars that speeds are held to, computed from the measurements themselves."""

from collections import Counter

import msgspec
import numpy as np
import pytest

from advisor.knowledge.catalog import load
from profiles.measurements import drafting, fit, placed
from profiles.measurements.rows import measured, runtimes, table
from tests.speed.conftest import Evaluated


def test_plain_decoding_of_devices_never_seen(evaluated: Evaluated) -> None:
    """Leaving one device out at a time: median |log error| at most .10, mean at most .16."""
    errors = np.abs([one.error for one in evaluated[2]])
    assert len(errors) >= 180
    assert np.median(errors) <= 0.10
    assert errors.mean() <= 0.16


def test_gpus_alone(evaluated: Evaluated) -> None:
    errors = np.abs([one.error for one in evaluated[2] if one.row.kind != "cpu"])
    assert np.median(errors) <= 0.10
    assert errors.mean() <= 0.13


def test_llmfit_is_several_times_as_far_off(evaluated: Evaluated) -> None:
    ours, theirs = (np.abs([getattr(one, name) for one in evaluated[2]]) for name in ("error", "llmfit"))
    assert np.median(theirs) > 3 * np.median(ours)
    assert theirs.mean() > 3 * ours.mean()


def test_four_in_five_measurements_lie_in_the_range(evaluated: Evaluated) -> None:
    inside = [yes for _, yes in fit.covered(evaluated[2])]
    assert 0.72 <= np.mean(inside) <= 0.90


def test_no_class_is_biased_without_saying_so(evaluated: Evaluated) -> None:
    """Where a class has been measured on several devices, its middle error is within its own range."""
    for kind, found in fit.by(evaluated[2], lambda one: one.row.kind).items():
        if len({one.row.device for one in found}) > 2:
            assert abs(np.median([one.error for one in found])) < 0.15, kind


def test_gains_have_the_right_sign_and_size() -> None:
    pairs = drafting.left_out([one for one in drafting.measured() if not one.excluded])
    errors = [abs(np.log(found / one.gain)) for one, found in pairs]
    assert len(pairs) >= 25
    assert sum(one.gain < 1 for one, _ in pairs) >= 6, "losses are among them"
    assert np.mean([drafting.right_sign(found, one.gain) for one, found in pairs]) >= 0.85
    assert np.median(errors) <= 0.20


def test_gains_of_doubtful_pairs_too() -> None:
    pairs = drafting.left_out(drafting.measured())
    assert np.mean([drafting.right_sign(found, one.gain) for one, found in pairs]) >= 0.85
    assert np.median([abs(np.log(found / one.gain)) for one, found in pairs]) <= 0.20


def test_experts_and_layers_in_main_memory() -> None:
    rows = list(placed.moved(load()))
    errors = [abs(np.log(row.predicted / row.tokens_per_s)) for row in rows]
    assert len(rows) >= 35
    assert np.median(errors) <= 0.13
    assert np.mean(errors) <= 0.16


def test_constants_are_what_the_rows_give(evaluated: Evaluated) -> None:
    rows, support, found = evaluated
    apart = fit.left_out(rows, support, runtimes())
    kept = msgspec.json.decode(fit.TARGET.read_bytes())
    assert fit.alike(kept, fit.profile(rows, support, [*found, *apart])), "run python -m profiles.measurements.fit"


def test_the_code_gives_what_the_fit_judged(evaluated: Evaluated) -> None:
    """`advisor.prediction.speed` on the row's machine, to the rounding of the constants on file."""
    rows, support, _ = evaluated
    constants = fit.fitted([*rows, *support])
    lines = {line["row_id"]: line for line in table("gemma4.csv")}
    catalog = load()
    for row in rows:
        setup = placed.setup_of(lines[row.id], catalog, "cpu" if row.kind == "cpu" else "gpu")
        assert setup is not None
        assert placed.seconds(setup) == pytest.approx(fit.predicted(row, constants), rel=0.01), row.id


def test_every_row_has_its_source() -> None:
    for name in ("gemma4.csv", "others.csv"):
        for line in table(name):
            assert line["source"].strip(), line["row_id"]
        assert len({line["row_id"] for line in table(name)}) == len(table(name))


def test_rules_leave_most_single_device_rows_in() -> None:
    reasons = Counter(row.excluded for row in measured())
    assert reasons[""] >= 180
    for rare in ("impossible: faster than the memory", "stated size contradicts the quant"):
        assert reasons[rare] <= 5
