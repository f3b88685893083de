"""The conformance suite: what every backend must keep to, rule by rule, tried out on a real pair of files.

    advisor backends check NAME            from the command line
    backends.conformance.plugin            as a pytest plugin

Nothing of it is imported unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from backends.conformance import counting, paper, serving
from backends.conformance.bench import LIMIT_S, Bench
from backends.conformance.rules import Result, Rule, Verdict, demand_of, name_of

RULES: tuple[Rule, ...] = (*paper.RULES, *serving.RULES, *counting.RULES)

__all__ = ["LIMIT_S", "RULES", "Bench", "Result", "Rule", "Verdict", "demand_of", "name_of", "verdict"]


def verdict(results: Iterable[Result]) -> Verdict:
    """`untried` where nothing could be started: that is no pass."""
    status = {result.name: result.status for result in results}
    if "fail" in status.values():
        return "fails"
    return "conforms" if status.get(name_of(serving.start)) == "pass" else "untried"
