"""Rules for what a backend says before anything runs: detect, plan, prepare."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from advisor.errors import Interrupted
from advisor.machine import Availability
from advisor.units import format_file_size
from backends.base import Backend
from backends.conformance.bench import Bench
from backends.conformance.rules import Broken, Skipped, copied, require
from backends.conformance.watched import watched

QUICK_S = 1.0
"""For a detection, and for the import before it: `advisor detect` asks every backend there is, one after the other."""
TRIES = 3
"""The best of these counts: other programs use this machine too."""
RUNTIMES = ("jax", "llama_cpp", "mlx", "numpy", "onnxruntime", "tensorflow", "textual", "torch", "transformers", "vllm")
KEPT = ("SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
"""Variables without which a system does not work at all."""
FRESH = """
import importlib, json, sys, time
import advisor.machine, backends.base
begun = time.perf_counter()
found = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])().detect()
print(json.dumps([time.perf_counter() - begun, [name for name in sys.argv[3:] if name in sys.modules]]))
"""


def detect_quick(bench: Bench) -> None:
    """In a fresh process, import and detect take a second together at most (the best of three) and load no runtime."""
    kind = type(bench.backend)
    if "<locals>" in kind.__qualname__ or kind.__module__ == "__main__":
        raise Skipped(f"{kind.__qualname__} cannot be imported by another process")
    took: list[float] = []
    while len(took) < TRIES and (not took or min(took) > QUICK_S):
        seconds, runtimes = _fresh(kind)
        require(not runtimes, f"it imports {', '.join(runtimes)}: import it inside the methods that need it")
        took.append(seconds)
    require(min(took) <= QUICK_S, f"it takes {min(took):.1f} s")


def _fresh(kind: type[Backend]) -> tuple[float, list[str]]:
    """Seconds, and the runtimes among the modules."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH, kind.__module__, kind.__qualname__, *RUNTIMES],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
    )
    require(done.returncode == 0, f"it fails: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    seconds, runtimes = json.loads(done.stdout.splitlines()[-1])
    return seconds, runtimes


def detect_safe(bench: Bench) -> None:
    """detect never raises, not even without PATH, home and settings, and says why where nothing is available."""
    _checked(bench, bench.backend.detect())
    with _bare_environment():
        _checked(bench, bench.backend.detect())


def _checked(bench: Bench, found: Availability) -> None:
    require(isinstance(found, Availability), f"it returns {type(found).__name__}, not an Availability")
    name = bench.backend.name
    require(found.name == name, f"it speaks of {found.name!r}, but the backend's name is {name!r}")
    require(found.available or found.why_not, "it is not available and does not say why")


@contextlib.contextmanager
def _bare_environment() -> Iterator[None]:
    """No PATH, no home, no settings."""
    kept = dict(os.environ)
    # Beneath what is no folder: not even root can make it.
    nowhere = os.path.join(os.devnull, "nonexistent")  # noqa: PTH118 - a path that is text in an environment
    os.environ.clear()
    os.environ.update({name: kept[name] for name in KEPT if name in kept}, PATH="", HOME=nowhere, USERPROFILE=nowhere)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def plan_pure(bench: Bench) -> None:
    """plan writes no file, starts no program and opens no connection."""
    _ = bench.found, bench.model  # what is found out or made once is not the plan's doing
    with watched() as deeds:
        bench.plan()
    require(not deeds, f"it {'; '.join(deeds[:3])}")


def plan_repeatable(bench: Bench) -> None:
    """The same model and options give the same plan, now, later and from another instance."""
    first = bench.plan()
    require(bench.plan() == first, "two plans in a row differ")
    other = bench.backend.plan(msgspec.structs.replace(bench.model, name="other"), bench.options)
    require(other != first, "another model gets the same plan")
    require(bench.plan() == first, "the plan depends on what was planned before")
    with contextlib.suppress(TypeError):  # it takes arguments: then there is no other instance to be had
        again = type(bench.backend)().plan(bench.model, bench.options)
        require(again == first, "another instance plans otherwise")


def plan_json(bench: Bench) -> None:
    """A plan keeps the model it is for, names the human's own command, and survives being written as JSON."""
    plan = bench.plan()
    require(plan.backend == bench.backend.name, f"it is for the backend {plan.backend!r}")
    require(plan.model == bench.model, "it is for another model than was asked for")
    require(plan.command, "it has no command for a human")
    try:
        back = copied(plan)
    except (TypeError, ValueError) as error:
        raise Broken(f"it cannot be written as JSON: {error}") from None
    require(back == plan, "it comes back from JSON as another plan")


def prepare_resumes(bench: Bench) -> str | None:
    """Interrupted midway by its progress callback, prepare lets that through, and goes on there when called again."""
    bench.usable()
    plan, backend = bench.plan(), bench.backend
    if inspect.getattr_static(type(backend), "prepare") is Backend.prepare:
        return "it prepares nothing"
    cut: list[tuple[str, int]] = []

    def interrupt(what: str, done: int, size: int | None) -> None:
        if done and (size is None or size <= 2 * done < 2 * size):
            cut.append((what, done))
            raise Interrupted("interrupted by the conformance suite")

    with contextlib.suppress(Interrupted):
        backend.prepare(plan, interrupt)
        require(not cut, "it goes on although its progress callback raised Interrupted")
    again: list[tuple[str, int]] = []
    backend.prepare(plan, lambda what, done, _size: again.append((what, done)))
    if not cut:
        raise Skipped("it reported nothing between the beginning and the end that could be interrupted")
    (what, before), *_ = cut
    after = next((done for name, done in again if name == what and done), before)
    lost = f"{what} was interrupted at {format_file_size(before)} and began again at {format_file_size(after)}"
    require(2 * after >= before, lost)
    return None


RULES = (detect_quick, detect_safe, plan_pure, plan_repeatable, plan_json, prepare_resumes)
