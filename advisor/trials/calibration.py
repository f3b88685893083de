"""What this machine is good for, measured in a minute: memory bandwidth, and the cost of 1 to 16 tokens at once.

The second is what drafting rests on: verifying a draft is one step with several rows. It is timed with the runtime that
is installed here, on the embedded model and on two layers with the widths of the 12B, on the processor and, where the
runtime is built for it, on the GPU; so is the reading of a prompt. It is kept with the hardware's fingerprint and the
runtime's build.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from advisor import paths
from advisor.errors import Interrupted, NoBackend, RuntimeFailed
from advisor.machine import Machine
from advisor.prediction import measurements
from advisor.prediction.measurements import FileId, Measurement
from advisor.prediction.pace import CPU, DEMO, GPU, PROCESSOR, PROMPT, ROWS, RUNTIME, WIDE, WIDER
from advisor.trials.costs import Calibration, Costs

SCHEMA = "advisor.calibrate/1"
DEMO_S, LIKE_12B_S, GPU_S = 8.0, 25.0, 4.0
READING_S, LOADING_S = 1.0, 4.0
"""About: of main memory, and of a model before it is timed."""
PATIENCE_S, LOOK_S = 120.0, 0.1
DECLINED = "no-calibration"
"""A file of the state folder: hardware and build for which it was declined, one a line."""
MEMORY = "memory"
ALL_LAYERS = 99


class Stage(NamedTuple):
    """What begins, in words, and about how many seconds it takes."""

    what: str
    seconds: float


def stages(machine: Machine | None = None) -> tuple[Stage, ...]:
    """What it consists of there."""
    gpu = (Stage("decoding on the GPU", 3 * (LOADING_S + GPU_S)),) if machine and offloads(machine) else ()
    return (
        Stage("reading main memory", READING_S),
        Stage("decoding with the embedded model", LOADING_S + DEMO_S),
        Stage("decoding with two layers of the 12B's width", LOADING_S + LIKE_12B_S),
        *gpu,
    )


def offloads(machine: Machine) -> bool:
    """Whether the runtime is built for a GPU, and there is one."""
    built = any(each.name == RUNTIME and each.available and each.build != PROCESSOR for each in machine.backends)
    return built and bool(machine.gpus)


def run(machine: Machine, stop: threading.Event | None = None) -> Iterator[Stage | Calibration]:
    """Measure and keep it; yields what begins, and last what was found.

    Args:
        stop: ends it when it is set, in the middle of whatever is measured; nothing is kept then.

    Raises:
        NoBackend: the runtime is not here.
        RuntimeFailed: it failed, or what was found cannot be kept.
        Interrupted: it was stopped.
    """
    if not any(each.name == RUNTIME and each.available for each in machine.backends):
        raise NoBackend("calibrating needs the native engine, which is not installed", command="advisor doctor")
    stop = stop or threading.Event()
    reading, embedded, wide, *gpu = stages(machine)
    yield reading
    rate = memory_rate(machine)
    yield embedded
    costs = [_demo_costs(DEMO_S, stop)]
    yield wide
    costs.append(_wide_costs(WIDE, LIKE_12B_S, stop))
    untimed = ""
    for stage in gpu:
        yield stage
        try:
            costs += _gpu_costs(stop)
        except RuntimeFailed as error:  # what else holds its memory does not make the rest worthless
            untimed = error.message
    found = Calibration(
        machine=measurements.fingerprint(machine),
        build=measurements.build_of(machine, RUNTIME),
        memory_bytes_per_s=rate,
        costs=tuple(costs),
        untimed=untimed,
    )
    measurements.keep(*kept(found, machine))
    yield found


def memory_rate(machine: Machine) -> int | None:
    """Bytes per second; the machine's own reading where it was taken already."""
    if machine.basis.get("memory.bandwidth_bytes_per_s") == "measured":
        return machine.memory.bandwidth_bytes_per_s
    from advisor.hardware.probes import readtest  # noqa: PLC0415

    try:
        found = readtest.measure(machine.cpu.cores, 0, machine.memory.available_bytes)
    except (OSError, ValueError, AttributeError, RuntimeError, MemoryError):
        return None
    return int(found.rate) if found else None


def _demo_costs(seconds: float, stop: threading.Event, placement: str = CPU) -> Costs:
    from advisor.running import demo  # noqa: PLC0415

    return _timed(DEMO, demo.pair(drafter=False).target, seconds, stop, placement)


def _gpu_costs(stop: threading.Event) -> list[Costs]:
    """All that `pace` needs to tell a layer's time from its weights'."""
    return [
        _demo_costs(GPU_S, stop, GPU),
        _wide_costs(WIDE, GPU_S, stop, GPU),
        _wide_costs(WIDER, GPU_S, stop, GPU),
    ]


def _wide_costs(name: str, seconds: float, stop: threading.Event, placement: str = CPU) -> Costs:
    from backends.native import synthetic  # noqa: PLC0415 - numpy

    shape, size = {WIDE: (synthetic.LIKE_12B, 280), WIDER: (synthetic.MORE_LAYERS, 840)}[name]

    with tempfile.TemporaryDirectory(prefix="advisor-calibrate-") as folder:
        model = Path(folder) / "wide.gguf"
        try:
            synthetic.write(model, shape)
        except OSError as error:
            raise RuntimeFailed(
                f"no room for a test model of {size} MB in {folder}: {error.strerror}",
                hint="set TMPDIR to another folder",
            ) from None
        return _timed(name, model, seconds, stop, placement)


def _timed(name: str, model: Path, seconds: float, stop: threading.Event, placement: str = CPU) -> Costs:
    """Time it in a process of its own, which ends with this one."""
    layers = ALL_LAYERS if placement == GPU else 0
    argv = [sys.executable, "-P", "-m", "backends.native.rows", str(model), str(seconds), str(layers)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said, complaint = _awaited(process, PATIENCE_S + seconds, stop)
        except subprocess.TimeoutExpired:
            raise RuntimeFailed(
                f"decoding with {name} took longer than {PATIENCE_S:.0f} s", hint="is this machine busy?"
            ) from None
        finally:
            process.kill()
    try:
        found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = (complaint.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeFailed(f"decoding with {name} failed: {last}", command="advisor doctor") from None
    rows, usual = ({int(count): float(taken) for count, taken in found[name].items()} for name in ("rows", "usual"))
    return Costs(
        model=name,
        seconds=rows,
        usual=usual,
        times=int(found["times"]),
        bytes=int(found["bytes"]),
        placement=placement,
        prompt_tokens=int(found["prompt"]["tokens"]),
        prompt_s=float(found["prompt"]["seconds"]),
    )


def _awaited(process: subprocess.Popen[str], seconds: float, stop: threading.Event) -> tuple[str, str]:
    """What it printed, on standard output and standard error.

    Raises:
        subprocess.TimeoutExpired: it took longer.
        Interrupted: it was stopped.
    """
    until = time.monotonic() + seconds
    while not stop.is_set():
        try:
            return process.communicate(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > until:
                raise
    raise Interrupted("stopped")


# ---- Remembered


def kept(found: Calibration, machine: Machine) -> list[Measurement]:
    """As measurements: one for the memory, one for each number of rows of each model, one for each model's prompt."""

    def one(kind: str, model: str, size: int, placement: str = CPU, **fields: Any) -> Measurement:
        return Measurement(
            source="calibration",
            date=date,
            model=model,
            target=FileId(name=model, size=size),
            backend=RUNTIME,
            build=found.build,
            machine=found.machine,
            drivers=measurements.drivers(machine),
            hardware=measurements.hardware(machine),
            placement=placement,
            kind=kind,
            **fields,
        )

    date = measurements.now()
    entries = [
        one(
            f"{ROWS} {rows}",
            costs.model,
            costs.bytes,
            costs.placement,
            tokens_per_s=rows / taken,
            low=rows / costs.usual.get(rows, taken),
            n=costs.times,
            draft_tokens=rows - 1,
        )
        for costs in found.costs
        for rows, taken in costs.seconds.items()
    ]
    entries += [
        one(
            PROMPT,
            costs.model,
            costs.bytes,
            costs.placement,
            tokens_per_s=costs.prompt_tokens / costs.prompt_s,
            depth_tokens=costs.prompt_tokens,
        )
        for costs in found.costs
        if costs.prompt_s
    ]
    if found.memory_bytes_per_s:
        entries.append(one(MEMORY, "", 0, tokens_per_s=0.0, bytes_per_s=float(found.memory_bytes_per_s)))
    return entries


def recalled(machine: Machine) -> Calibration | None:
    """The last calibration of this hardware with this build of the runtime."""
    build = measurements.build_of(machine, RUNTIME)
    found = [
        one
        for one in measurements.recall(measurements.fingerprint(machine))
        if one.source == "calibration" and one.build == build and one.drivers == measurements.drivers(machine)
    ]
    if not found:
        return None
    last = [one for one in found if one.date == found[-1].date]
    memory = next((one.bytes_per_s for one in last if one.kind == MEMORY), None)
    steps = [one for one in last if one.kind.startswith(ROWS)]
    prompts = {_place(one): one for one in last if one.kind == PROMPT and one.tokens_per_s}
    places = dict.fromkeys(map(_place, steps))
    return Calibration(
        machine=found[-1].machine,
        build=build,
        memory_bytes_per_s=int(memory) if memory else None,
        costs=tuple(_costs([one for one in steps if _place(one) == place], prompts.get(place)) for place in places),
    )


def _place(one: Measurement) -> tuple[str, str]:
    """The model, and where it was."""
    return one.model, one.placement or CPU


def _costs(steps: list[Measurement], prompt: Measurement | None) -> Costs:
    rows = {one.draft_tokens + 1: one for one in steps}
    return Costs(
        model=steps[0].model,
        seconds={count: count / one.tokens_per_s for count, one in rows.items()},
        usual={count: count / one.low for count, one in rows.items() if one.low},
        times=steps[0].n,
        bytes=steps[0].target.size,
        placement=steps[0].placement or CPU,
        prompt_tokens=prompt.depth_tokens if prompt else 0,
        prompt_s=prompt.depth_tokens / prompt.tokens_per_s if prompt else 0.0,
    )


def is_wanted(machine: Machine) -> bool:
    """Whether the wizard should offer it: never done here with this build nor declined, and the runtime is there."""
    there = any(each.name == RUNTIME and each.available for each in machine.backends)
    return there and not machine.simulated and _mark(machine) not in _declined() and recalled(machine) is None


def decline(machine: Machine) -> None:
    """Remember that it is not wanted with this hardware and build. Best effort: it would be offered again."""
    with contextlib.suppress(OSError):
        file = paths.state_folder() / DECLINED
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file.open("a", encoding="utf-8") as declined:
            declined.write(f"{_mark(machine)}\n")


def _mark(machine: Machine) -> str:
    return f"{measurements.fingerprint(machine)} {measurements.build_of(machine, RUNTIME)}"


def _declined() -> list[str]:
    try:
        return (paths.state_folder() / DECLINED).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
