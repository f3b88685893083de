"""Rows as machines and placements, predicted by `advisor.prediction.speed` itself.

The check that the product's code gives what the fit judged, and the judgement of what the fit does not see: experts and
layers in main memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import mean, median
from typing import NamedTuple

import numpy as np

from advisor.knowledge.catalog import Catalog, load
from advisor.machine import Cpu, Gpu, Machine, Memory, Vendor
from advisor.memory.footprint import weights
from advisor.memory.placement import Mode, Placement
from advisor.prediction import speed
from advisor.prediction.speed import Setup
from profiles.measurements.rows import GB, GIB, MODELS, kind_of, number, quant_of, table

VENDORS: dict[str, Vendor] = {"nvidia": "nvidia", "jetson": "nvidia", "amd": "amd", "apple": "apple", "intel": "intel"}

HOST_GB_S = 83.2
"""Assumed beside a GPU, where hardly any row names the processor: two channels of DDR5-5200, as the Zen 4 beside the
RTX 3060 of these rows has."""
HOST_GB_S_OF = {"R9700": 60.0}
"""Assumed: a host with 126 GiB, whose four modules run slower."""


class Moved(NamedTuple):
    """A row that is partly on the processor, and its predicted speed."""

    id: str
    device: str
    offload: str
    depth: int
    tokens_per_s: float
    predicted: float


def machine_of(line: dict[str, str]) -> Machine:
    """The row's machine, as detection would describe it."""
    alone = line["class"].startswith(("cpu", "phone-cpu"))
    host = number(line["bandwidth_gb_s"]) if alone else HOST_GB_S_OF.get(line["device"], HOST_GB_S)
    gpus = () if alone else (gpu_of(line),)
    level = line["simd"] or "avx512"
    return Machine(
        os="android" if level == "small" else "linux",
        cpu=Cpu(name=line["device"], cores=int(number(line["cores"]) or 8), threads=8, features=(level,)),
        memory=Memory(
            total_bytes=64 * GIB,
            available_bytes=60 * GIB,
            bandwidth_bytes_per_s=int(host * GB),
            unified=any(gpu.integrated for gpu in gpus),
        ),
        gpus=gpus,
    )


def gpu_of(line: dict[str, str]) -> Gpu:
    return Gpu(
        name=line["device"],
        vendor=VENDORS[line["class"].split("-")[0]],
        index=0,
        memory_total_bytes=64 * GIB,
        memory_free_bytes=60 * GIB,
        bandwidth_bytes_per_s=int(number(line["bandwidth_gb_s"]) * GB),
        integrated=line["class"] in ("nvidia-gb10", "jetson", "amd-apu", "apple"),
    )


def setup_of(line: dict[str, str], catalog: Catalog, mode: Mode, *, layers: int = 0, moved: int = 0) -> Setup | None:
    """The row as a configuration; None where its file is not known."""
    model = catalog.models[MODELS[line["model"]]]
    quant = quant_of(line, model)
    if quant is None:
        return None
    placement = Placement(
        mode=mode,
        gpu_layers=layers or model.architecture.layers + 1,
        cpu_expert_layers=min(moved, model.architecture.layers),
        device_bytes=1,
        host_bytes=1,
        budget_bytes=1,
        headroom_bytes=0,
    )
    return Setup(
        architecture=model.architecture,
        weights=weights(model.architecture, quant),
        placement=placement,
        machine=machine_of(line),
        devices={},
        depth_tokens=int(line["depth"] or line["prompt_tokens"] or 0),
        runtime=line["backend"],
    )


def seconds(setup: Setup) -> float:
    """What `advisor.prediction.speed` says of one token."""
    return speed.step_seconds(setup, *speed.stages(setup), 1)


def moved(catalog: Catalog) -> Iterator[Moved]:
    """Rows of llama.cpp with experts or layers in main memory, as far as the row says how many."""
    for line in table("gemma4.csv"):
        if not line["tokens_per_s"] or line["n_gpu"] != "1" or line["repeat"] == "1" or line["confidence"] == "low":
            continue
        if not line["bandwidth_gb_s"] or not line["runtime"].startswith("llama.cpp") or line["model"] not in MODELS:
            continue
        setup = moved_setup(line, catalog)
        if setup is not None:
            yield Moved(
                id=line["row_id"],
                device=f"{line['device']} ({kind_of(line['class'], line['backend'], line['device'], line['runtime'])})",
                offload=line["offload"],
                depth=setup.depth_tokens,
                tokens_per_s=float(line["tokens_per_s"]),
                predicted=1 / seconds(setup),
            )


def moved_setup(line: dict[str, str], catalog: Catalog) -> Setup | None:
    """None where the row is all on one device, or both layers and experts were moved by hand."""
    layers = re.search(r"-ngl (\d+)", line["offload"])
    experts = experts_moved(line["offload"])
    if layers and int(layers[1]) and not experts:
        return setup_of(line, catalog, "split", layers=int(layers[1]))
    return setup_of(line, catalog, "experts-on-cpu", moved=experts) if experts and not layers else None


def experts_moved(offload: str) -> int:
    """Layers whose experts are in main memory."""
    if "all experts" in offload:
        return 30
    found = re.search(r"experts of (?:first )?(\d+)|n-cpu-moe (\d+)", offload)
    return int(found[1] or found[2]) if found else 0


def report() -> None:
    rows = list(moved(load()))
    errors = [abs(float(np.log(row.predicted / row.tokens_per_s))) for row in rows]
    print(f"\nPartly on the processor, hosts assumed: {len(rows)} rows, {len({row.device for row in rows})} devices")
    for device in sorted({row.device for row in rows}):
        own = [error for row, error in zip(rows, errors, strict=True) if row.device == device]
        print(f"  {device:28} {len(own):3} rows, |log error| median {median(own):.3f} mean {mean(own):.3f}")
    print(f"  {'all':28} {len(rows):3} rows, |log error| median {median(errors):.3f} mean {mean(errors):.3f}")
