"""Predicted buffers against what llama.cpp allocates: `python -m tests.bench.memory [--quick]` prints the whole table.

Five sizes x contexts x cache types, micro-batches and callers, through llama-cpp-python and, where there is one,
llama-server (`python -m tests.tools.llama_server` gets one). Everything is within 1 % or 32 MiB, whichever is larger,
or the exit code is 1.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from advisor.files import gguf, shapes
from advisor.knowledge.catalog import load
from advisor.knowledge.profile import Architecture, ModelProfile
from advisor.memory import footprint
from advisor.memory.footprint import MIB, Shape
from tests.tools import header_gguf, llama_server
from tests.tools.allocations import children, parse

Ask = Callable[..., dict[str, Any]]

CONTEXTS = (4096, 32768, 131072)
KV_TYPES = ("f16", "q8_0", "q4_0")
CALLS: dict[str, dict[str, Any]] = {
    "llama.cpp": {},
    "native": {"outputs": 16, "batch": 512, "draft": {"ubatch": 1, "batch": 1, "outputs": 1}},
    "llama-cpp-python": {"outputs": 0},
}
"""By caller: what its contexts ask for; llama-server's depends on its slots."""
KNOWN = {f"{size} llama-cpp-python 131072 f16" for size in ("26b", "31b")}
"""Cases whose compute buffer is known to be predicted too high, by about 100 MiB of 540: every row asks for logits."""
SMALL_MODEL = 5 << 30
"""Bytes; the RPC server allocates for real what it is asked to hold."""
LARGEST_BUFFER = 20 << 30
"""Bytes; an allocation above is refused on a machine with 24 GB."""


class Compared(NamedTuple):
    """One buffer. Sizes in MiB."""

    case: str
    kind: str
    predicted: float
    reported: float

    @property
    def deviation(self) -> float:
        return self.predicted - self.reported

    @property
    def allowed(self) -> float:
        return max(0.01 * self.reported, 32.0)

    @property
    def good(self) -> bool:
        return abs(self.deviation) <= self.allowed

    def __str__(self) -> str:
        mark = "" if self.good else "  KNOWN" if self.case in KNOWN else "  OUTSIDE"
        return (
            f"{self.case:44} {self.kind:16} {self.predicted:10.2f} {self.reported:10.2f} {self.deviation:+8.2f}{mark}"
        )


def write_pair(folder: Path, model: ModelProfile, quant: str, *, pure: bool = False, vocabulary: bool = False) -> Pair:
    name = f"{model.id}-{quant}{'-pure' if pure else ''}{'-vocab' if vocabulary else ''}"
    target, drafter = folder / f"{name}.gguf", folder / f"{name}-drafter.gguf"
    if not target.exists():
        header_gguf.write_target(target, model, quant, pure=pure, vocabulary=vocabulary)
        header_gguf.write_drafter(drafter, model, quant, pure=pure, vocabulary=vocabulary)
    return Pair(target, drafter)


class Pair(NamedTuple):
    target: Path
    drafter: Path


def weights(ask: Ask, pair: Pair, case: str) -> Iterator[Compared]:
    """The buffers of the weights, without mapping: there the tied head is held twice, and nothing is touched."""
    for path, who in ((pair.target, ""), (pair.drafter, "drafter ")):
        header = gguf.read_whole(path)
        if header.total_bytes > LARGEST_BUFFER:
            continue
        for repack in (True, False):
            reported = ask(kind="weights", path=str(path), repack=repack, mapped=False)["model"]
            if not reported:
                continue
            copied = shapes.repacked(header) if repack else 0
            held = sum(header.tensors.values()) + twice(header, repack=repack) - copied
            yield Compared(f"{case}{'' if repack else ' --no-repack'}", f"{who}weights", held / MIB, plain(reported))
            if repack:
                yield Compared(case, f"{who}repacked", copied / MIB, reported.get("CPU_REPACK", 0.0))


def twice(header: gguf.Header, *, repack: bool) -> int:
    """The tied head's second copy: a target's always, a drafter's only where one of the two is repacked."""
    embedding = header.tensors["token_embd.weight"]
    copied = repack and header.types["token_embd.weight"] in footprint.REPACKED_TYPES
    return embedding if header.architecture == gguf.TARGET or copied else 0


def plain(reported: dict[str, float]) -> float:
    return sum(size for name, size in reported.items() if name != "CPU_REPACK")


def contexts(ask: Ask, pair: Pair, call: str, shape: Shape, case: str) -> Iterator[Compared]:
    """The buffers of a target's context and its drafter's."""
    target, drafter = gguf.read(pair.target), gguf.read(pair.drafter)
    architecture = shapes.architecture(target)
    asked: dict[str, Any] = {
        "context": shape.context_tokens,
        "kv": shape.kv_type,
        "ubatch": shape.micro_batch,
        "sequences": shape.sequences,
        "flash": -1 if shape.flash_attention else 0,
    }
    asked |= CALLS[call]
    if call == "llama.cpp":
        asked |= {"outputs": 4 * shape.sequences, "draft": {"outputs": shape.sequences}}
    reported = ask(kind="contexts", path=str(pair.target), drafter=str(pair.drafter), **asked)
    yield from target_buffers(architecture, shape, reported["target"], case)
    draft = shapes.drafter_load(drafter, architecture, shape)
    yield Compared(case, "drafter compute", draft.compute / MIB, sum(reported["drafter"]["compute"].values()))


def target_buffers(architecture: Architecture, shape: Shape, reported: dict[str, Any], case: str) -> Iterator[Compared]:
    globals_, sliding = (size for size, _cells, _layers in reported["kv"][:2])
    yield Compared(case, "KV global", footprint.kv_global_bytes(architecture, shape) / MIB, globals_)
    yield Compared(case, "KV sliding", footprint.kv_sliding_bytes(architecture, shape) / MIB, sliding)
    outputs = footprint.output_rows(shape, 3)
    compute = footprint.compute_bytes(architecture, shape, outputs)
    yield Compared(case, "compute", compute / MIB, sum(reported["compute"].values()))
    yield Compared(case, "output", footprint.output_bytes(architecture, shape) / MIB, reported["output"])


def all_cases(ask: Ask, folder: Path) -> Iterator[Compared]:
    models = load().models.values()
    for model in models:
        for quant, pure in (*((name, False) for name in header_gguf.QUANTS), ("Q4_0", True)):
            pair = write_pair(folder, model, quant, pure=pure)
            yield from weights(ask, pair, f"{model.id} {quant}{' QAT' if pure else ''}")
    for model in models:
        pair = write_pair(folder, model, "Q4_0", pure=True)
        for shape, call, case in context_cases():
            yield from contexts(ask, pair, call, shape, f"{model.id} {case}")


SERVER_SIZES = ("e2b", "e4b")
"""What llama-server loads here: it maps the whole file and clears the KV cache, which takes long for larger ones."""
START_S = 120


def server_cases(server: str, folder: Path) -> Iterator[Compared]:
    """llama-server's own log, with one slot, the drafter on and off."""
    models = load().models
    for size in SERVER_SIZES:
        pair = write_pair(folder, models[size], "Q4_0", pure=True, vocabulary=True)
        for context, kv, drafted in ((8192, "f16", False), (8192, "f16", True), (32768, "q8_0", True)):
            shape = Shape(context_tokens=context, kv_type=kv)  # type: ignore[arg-type]
            case = f"{size} server {context} {kv}{' drafter' if drafted else ''}"
            yield from served(server, pair, shape, case, drafted=drafted)


def served(server: str, pair: Pair, shape: Shape, case: str, *, drafted: bool) -> Iterator[Compared]:
    words = ["-m", str(pair.target), "-c", str(shape.context_tokens), "--parallel", "1", "--fit", "off"]
    words += ["--cache-type-k", shape.kv_type, "--cache-type-v", shape.kv_type, "--no-repack", "--no-warmup"]
    if drafted:
        words += ["--model-draft", str(pair.drafter), "--spec-type", "draft-mtp", "--spec-draft-n-max", "3"]
    log = started(server, words)
    begin = next((at for at, line in enumerate(log) if "loading draft model" in line), len(log))
    header = gguf.read(pair.target)
    architecture = shapes.architecture(header)
    reported = parse(log[:begin])
    # Mapped, the tied head is one copy.
    yield Compared(case, "weights", sum(header.tensors.values()) / MIB, plain(reported["model"]))
    yield from target_buffers(architecture, shape, reported, case)
    if drafted:
        own = gguf.read(pair.drafter)
        draft, other = shapes.drafter_load(own, architecture, shape), parse(log[begin:])
        yield Compared(case, "drafter weights", draft.weights / MIB, plain(other["model"]))
        yield Compared(case, "drafter compute", draft.compute / MIB, sum(other["compute"].values()))


def gpu_cases(server: Path, folder: Path) -> Iterator[Compared]:
    """What is on a GPU and what stays in main memory, with llama.cpp's RPC server in the place of the GPU."""
    models = load().models.values()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [str(server), "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as device:
        time.sleep(1)
        try:
            with children(RPC_SERVER=address, LLAMA_CPP_LIB_PATH=str(server.parent)) as ask:
                for model in models:
                    pair = write_pair(folder, model, "Q4_0", pure=True)
                    for context in (8192, 131072):
                        yield from divided(ask, pair, Shape(context_tokens=context), f"{model.id} GPU {context}")
        finally:
            device.terminate()


def beside(server: Path | None, folder: Path) -> Iterator[Compared]:
    """What needs llama-server, or the RPC server that is built with it (`-DGGML_RPC=ON`)."""
    if server is None:
        return
    device = server.with_name("ggml-rpc-server")
    if device.exists():
        yield from gpu_cases(device, folder)
    yield from server_cases(str(server), folder)


def divided(ask: Ask, pair: Pair, shape: Shape, case: str) -> Iterator[Compared]:
    """One pair with all layers on the device."""
    target, drafter = gguf.read(pair.target), gguf.read(pair.drafter)
    held, architecture = shapes.weights(target), shapes.architecture(target)
    draft = shapes.drafter_load(drafter, architecture, shape)
    words = {"context": shape.context_tokens, "outputs": 4, "draft": {"outputs": 1}}
    found = ask(kind="contexts", path=str(pair.target), drafter=str(pair.drafter), **words)
    compute = footprint.compute_bytes(architecture, shape, 4)
    rows = (
        ("compute", compute, found["target"]["compute"], True),
        ("staging", footprint.staging_bytes(architecture, shape), found["target"]["compute"], False),
        ("drafter compute", draft.compute, found["drafter"]["compute"], True),
        ("drafter staging", draft.staging, found["drafter"]["compute"], False),
    )
    for kind, predicted, reported, on_device in rows:
        yield Compared(case, kind, predicted / MIB, part(reported, on_device=on_device))
    if target.total_bytes < SMALL_MODEL:
        buffers = ask(kind="weights", path=str(pair.target), repack=True, mapped=False)["model"]
        device = sum(target.tensors.values()) - held.per_layer_table
        yield Compared(case, "weights on GPU", device / MIB, part(buffers, on_device=True))
        host = held.per_layer_table + held.embedding
        yield Compared(case, "weights beside it", host / MIB, part(buffers, on_device=False))


def part(reported: dict[str, float], *, on_device: bool) -> float:
    return sum(size for name, size in reported.items() if name.startswith("RPC") == on_device)


def started(server: str, words: list[str]) -> list[str]:
    """The log of a server until it answers; then it is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["timeout", str(START_S), server, *words, "--host", "127.0.0.1", "--port", str(port), "-lv", "4"]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line.rstrip())
            if "listening on" in line:
                break
        child.terminate()
    if not any("listening on" in line for line in lines):
        raise RuntimeError("\n".join(["llama-server did not start:", *lines[-8:]]))
    return lines


def context_cases() -> Iterator[tuple[Shape, str, str]]:
    """Shapes and callers: the contract's grid, and each other dimension by itself."""
    for call in CALLS:
        for context in CONTEXTS:
            for kv in KV_TYPES if call == "llama.cpp" else ("f16",):
                shape = Shape(context_tokens=context, kv_type=kv, backend=call)  # type: ignore[arg-type]
                yield shape, call, f"{call} {context} {kv}"
    for change in (
        {"context_tokens": 256},
        {"micro_batch": 128},
        {"micro_batch": 1024},
        {"micro_batch": 2048},
        {"sequences": 4},
        {"flash_attention": False},
        {"flash_attention": False, "context_tokens": 32768},
    ):
        fields: dict[str, Any] = {"context_tokens": 8192, **change}
        yield Shape(**fields), "llama.cpp", " ".join(f"{key}={value}" for key, value in change.items())


def summary(rows: list[Compared]) -> list[str]:
    """The worst of each kind of buffer."""
    lines = [f"{'buffer':16} {'rows':>5} {'worst MiB':>10} {'worst %':>8}  where"]
    for kind in dict.fromkeys(row.kind for row in rows):
        of_kind = [row for row in rows if row.kind == kind]
        worst = max(of_kind, key=lambda row: abs(row.deviation))
        share = max(abs(row.deviation) / max(row.reported, 1.0) for row in of_kind)
        lines.append(f"{kind:16} {len(of_kind):5} {worst.deviation:+10.2f} {100 * share:8.2f}  {worst.case}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the worst of each kind of buffer")
    arguments = parser.parse_args()
    server = llama_server.find()
    rows = []
    with tempfile.TemporaryDirectory() as folder, children() as ask:
        for row in all_cases(ask, Path(folder)):
            rows.append(row)
            if not arguments.quick:
                print(row, flush=True)
        if server is None:
            print(f"no llama-server to compare with: {llama_server.COMMAND} builds one")
        for row in beside(server, Path(folder)):
            rows.append(row)
            if not arguments.quick:
                print(row, flush=True)
    print("\n".join(["", *summary(rows)]))
    known = [row for row in rows if not row.good and row.case in KNOWN]
    outside = [row for row in rows if not row.good and row.case not in KNOWN]
    print(f"{len(rows)} buffers, {len(outside)} outside 1 % or 32 MiB, and {len(known)} that are known to be")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
