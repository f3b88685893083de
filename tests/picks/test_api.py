"""For other programs: `from advisor import detect, recommend`."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from advisor import detect, recommend
from advisor.catalog import load
from advisor.errors import AdvisorError
from advisor.machine import Machine
from advisor.simulate import parse

MACHINES = ("RTX 3060 12GB, 32GB", "M3 Max 64GB", "cpu, 32GB", "RTX 4090, 64GB", "Raspberry Pi 5 8GB")


def test_this_machine() -> None:
    machine = detect(backends=False)
    assert isinstance(machine, Machine)
    assert recommend(machine, use_case="mobile", min_tokens_per_s=0).schema == "advisor.recommend/1"


def test_a_machine_in_words_and_as_a_record() -> None:
    answer = recommend("RTX 3060 12GB, 32GB")
    assert answer.recommendations[0].model == "12b"
    again = recommend(parse("RTX 3060 12GB, 32GB", load()))
    assert again.recommendations == answer.recommendations


def test_errors_are_advisors() -> None:
    for wrong in ({"use_case": "cooking"}, {"model": "99b"}, {"context_tokens": 0}):
        with pytest.raises(AdvisorError):
            recommend("RTX 4090, 64GB", **wrong)  # type: ignore[arg-type]


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, advisor; print([m for m in sys.modules if m.startswith('advisor.') or m == 'msgspec'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_ten_thousand_in_a_minute() -> None:
    """A hundredth of it, in time of the processor, because others use this machine too."""
    for machine in MACHINES:
        recommend(machine)
    start = time.process_time()
    for turn in range(20):
        for machine in MACHINES:
            recommend(machine, use_case=("chat", "coding")[turn % 2])
    assert (time.process_time() - start) * 100 < 60
