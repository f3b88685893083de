"""Counters since the start, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable

from backends.native.service import Service

Sample = tuple[str, float]
"""Labels with their braces, or nothing, and a value."""


def text(service: Service) -> str:
    """The page behind `/metrics`."""
    tally, counters = service.tally, service.counters
    offered = [(f'{{position="{i}"}}', n) for i, n in enumerate(tally.offered)]
    right = [(f'{{position="{i}"}}', n) for i, n in enumerate(tally.right)]
    families: list[tuple[str, str, Iterable[Sample]]] = [
        ("requests_total", "Answers given, whole or cancelled.", [("", counters.requests)]),
        ("requests_failed_total", "Requests that failed in the engine.", [("", counters.failed)]),
        ("requests_cancelled_total", "Requests whose client went.", [("", counters.cancelled)]),
        ("requests_refused_total", "Requests refused because the queue was full.", [("", counters.refused)]),
        ("requests_running", "Requests in the server now, queued ones included.", [("", len(service.tickets))]),
        ("requests_waiting", "Requests in the queue now.", [("", service.waiting)]),
        ("prompt_tokens_total", "Prompt tokens read.", [("", counters.prompt_tokens)]),
        ("cached_tokens_total", "Prompt tokens that were in the cache.", [("", counters.cached_tokens)]),
        ("predicted_tokens_total", "Tokens generated.", [("", tally.tokens)]),
        ("predicted_seconds_total", "Time spent generating, without prompts.", [("", round(tally.seconds, 6))]),
        ("drafted_tokens_total", "Tokens drafted.", [("", tally.drafted)]),
        ("accepted_tokens_total", "Drafted tokens that were right.", [("", tally.accepted)]),
        ("drafted_at_total", "Drafted tokens by position.", offered),
        ("accepted_at_total", "Drafted tokens that were right, by position.", right),
    ]
    return "".join(_family(*family) for family in families)


def _family(name: str, help_text: str, samples: Iterable[Sample]) -> str:
    kind = "counter" if name.endswith("_total") else "gauge"
    lines = [f"# HELP advisor_{name} {help_text}", f"# TYPE advisor_{name} {kind}"]
    return "\n".join([*lines, *(f"advisor_{name}{labels} {value}" for labels, value in samples)]) + "\n"
