"""Measurements for tests."""

from __future__ import annotations

from typing import Any

from advisor.machine import Machine
from advisor.prediction import measurements
from advisor.prediction.measurements import FileId, Measurement

MACHINE = "0123456789ab"


def measurement(**fields: Any) -> Measurement:
    given: dict[str, Any] = {
        "source": "trial",
        "date": "2026-11-23T17:00:00Z",
        "model": "12b",
        "quant": "QAT-Q4_0",
        "target": FileId(name="model.gguf", size=7_000_000_000, mark="a" * 16),
        "backend": "llama.cpp",
        "build": "1.2",
        "machine": MACHINE,
        "tokens_per_s": 30.0,
    }
    return Measurement(**given | fields)


def keep(machine: Machine, backend: str, /, **fields: Any) -> None:
    """Remember a measurement as one of this machine with this backend, as both are now."""
    about = {
        "backend": backend,
        "build": measurements.build_of(machine, backend),
        "machine": measurements.fingerprint(machine),
        "drivers": measurements.drivers(machine),
    }
    measurements.keep(measurement(**about | fields))
