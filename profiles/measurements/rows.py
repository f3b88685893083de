"""The rows of gemma4.csv and others.csv as inputs of the speed formula, and the rules that say which of them count.

A rule is a function of the row alone, never of what is predicted for it; the only arithmetic is `impossible`: more
bytes per second than the memory has.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from advisor.knowledge.catalog import Catalog, load
from advisor.knowledge.profile import Architecture, ModelProfile, Quant
from advisor.memory.footprint import expert_weights, weights
from advisor.prediction.reads import kv_read_bytes

FOLDER = Path(__file__).parent
GIB = 1 << 30
GB = 1e9

MODELS = {"E2B": "e2b", "E4B": "e4b", "12B": "12b", "26B-A4B": "26b", "31B": "31b"}

BITS = {
    "Q6_K": 6.56, "UD-Q6_K_XL": 7.3, "UD-Q8_K_XL": 8.9, "Q5_K_M": 5.7, "Q5_K_S": 5.5, "UD-Q5_K_XL": 5.9, "Q4_K_S": 4.6,
    "Q4_0": 4.6, "IQ4_XS": 4.25, "UD-IQ4_XS": 4.3, "IQ4_NL": 4.5, "UD-IQ4_NL": 4.5, "IQ3_XXS": 3.1,
    "INT4": 4.5, "INT8": 8.5, "NVFP4": 4.5, "MLX 4bit": 4.5, "QAT MLX-4bit": 4.5, "4bit": 4.5, "MLX 8bit": 8.5,
    "UD-IQ3_XXS": 3.3, "IQ2_M": 2.7,
}  # fmt: skip
"""Bits per weight of a whole file of this type, where its size is neither stated nor in the catalogue."""

SAME_FILE = 0.02
"""A stated size this near to the catalogue's is that file."""
OTHER_FILE = 0.25
"""A stated size this far from what the quant's name means is another quant."""

SMALL_BODIES = 3.0
"""Other models below so many 1e9 weights say nothing of Gemma 4: their time is launches of other kernels."""
OTHER_LAYER_SHARE = 0.7
"""Fixed time of a layer of another model relative to one of Gemma 4's, with its additional norms. RTX 2080 and RTX
5070: 50-55 us with 7B to 8B models, where Gemma 4 takes about 75."""


class Row(NamedTuple):
    """One measurement. Times in seconds, sizes in bytes, rates in bytes per second; 0 where not stated.

    `read`: weights that one token reads; `cache`: what it reads of the KV cache, counted at 16 bits. `moe_layers`:
    layers with routed experts. `excluded`: why the row does not count, or empty.
    """

    id: str
    device: str
    kind: str
    model: str
    quant: str
    bandwidth: float
    cores: int
    simd: str
    memory_gb: float
    read: float
    cache: float
    layers: float
    moe_layers: float
    depth: int
    tokens_per_s: float
    excluded: str = ""
    gemma: bool = True
    runtime: str = ""

    @property
    def seconds(self) -> float:
        return 1 / self.tokens_per_s


def table(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def measured(catalog: Catalog | None = None) -> list[Row]:
    """Every plain speed of Gemma 4 in the file."""
    known = catalog or load()
    return [gemma(line, known) for line in table("gemma4.csv") if line["tokens_per_s"]]


def gemma(line: dict[str, str], catalog: Catalog) -> Row:
    model = catalog.models.get(MODELS.get(line["model"], ""))
    quant = quant_of(line, model) if model else None
    read = cache = 0.0
    layers, moe = 0, 0
    depth = int(line["depth"] or line["prompt_tokens"] or 0)
    if model and quant:
        architecture = model.architecture
        read = token_bytes(architecture, quant)
        cache = kv_read_bytes(architecture, depth, "f16")
        layers, moe = architecture.layers, architecture.layers * bool(architecture.experts)
    row = Row(
        id=line["row_id"],
        device=line["device"],
        kind=kind_of(line["class"], line["backend"], line["device"], line["runtime"]),
        model=model.id if model else line["model"],
        quant=quant.name if quant else line["quant"],
        bandwidth=number(line["bandwidth_gb_s"]) * GB,
        cores=int(number(line["cores"])),
        simd=line["simd"],
        memory_gb=number(line["memory_gb"]),
        read=read,
        cache=cache,
        layers=layers,
        moe_layers=moe,
        depth=depth,
        tokens_per_s=float(line["tokens_per_s"]),
        runtime=line["runtime"],
    )
    return row._replace(excluded=exclusion(line, row, quant, model))


def number(text: str) -> float:
    return float(text) if text else 0.0


def token_bytes(architecture: Architecture, quant: Quant) -> float:
    """Weights that one token reads: no lookup table, and of the experts those it is routed to."""
    parts = weights(architecture, quant)
    experts = parts.experts * architecture.experts_used / architecture.experts if architecture.experts else 0
    return parts.layers + parts.embedding + experts


def quant_of(line: dict[str, str], model: ModelProfile) -> Quant | None:
    """The file: the catalogue's where name and stated size agree with one, else one of the stated or usual size."""
    name = re.sub(r" \(.*", "", line["quant"]).replace("QAT ", "QAT-")
    name = {"QAT-Q4_K_XL": "QAT-UD-Q4_K_XL", "UD-Q4_K_XL-QAT": "QAT-UD-Q4_K_XL", "bf16": "BF16"}.get(name, name)
    if name == "Q4_K_M" and "-qat-" in line["notes"].lower():
        name = "QAT-UD-Q4_K_XL"  # Unsloth's QAT repository has that file alone; its readers list it as Q4_K_M
    files = {quant.name: quant for quant in model.quants}
    if name in ("Q4_K_M", "UD-Q4_K_XL") and name not in files:
        name = "UD-Q4_K_M" if "UD-Q4_K_M" in files else "Q4_K_M"
    stated = number(line["weights_gib"]) * GIB
    listed = files.get(name)
    if listed and (not stated or abs(stated / listed.bytes - 1) < SAME_FILE):
        return listed
    size = stated or model.architecture.parameters * BITS.get(name, 0) / 8
    return sized(model, name, size) if size else None


def sized(model: ModelProfile, name: str, size: float) -> Quant:
    """A file of this size. Unsloth's files of the MoE keep what is outside the experts at Q8_0."""
    files = {quant.name: quant for quant in model.quants}
    if not model.architecture.experts:
        return msgspec.structs.replace(files["Q4_K_M"], name=f"~{name}", bytes=int(size), embedding_bits=0.0)
    experts = expert_weights(model.architecture)
    rest = model.architecture.parameters - experts
    dense = 8.5 if name.startswith(("UD-", "Q4_K")) else size * 8 / model.architecture.parameters
    bits = max(0.0, size * 8 - rest * dense) / experts
    return msgspec.structs.replace(files["UD-Q4_K_M"], name=f"~{name}", bytes=int(size), expert_bits=bits)


KINDS = {"nvidia-dgpu": "nvidia", "nvidia-gb10": "gb10", "jetson": "jetson", "apple": "apple", "intel-dgpu": "intel"}
HBM = re.compile(r"^(?:[ABHV]\d00|GH200|A30)\b")
OLD = re.compile(r"^(?:GTX 1\d|Tesla P|Jetson TX2|Radeon Pro V3|Vega)")


def kind_of(group: str, backend: str, device: str, runtime: str) -> str:  # noqa: PLR0911
    """The class of `profiles/speed.json` that a row of these columns belongs to."""
    if OLD.match(device):
        return "old"
    if runtime == "vllm":
        return "vllm"
    if group == "apple" and "mlx" in runtime:
        return "apple-mlx"
    if group == "nvidia-dgpu" and HBM.match(device):
        return "nvidia-hbm"
    if group == "amd-apu":
        return "amd-vulkan" if device == "Strix Halo" else "amd-apu"
    if group == "amd-dgpu":
        return f"amd-{backend}" if backend in ("vulkan", "rocm") else "amd"
    return "cpu" if group.startswith(("cpu", "phone-cpu")) else KINDS.get(group, group)


GPU_ONLY = re.compile(r"^full i?GPU")


def exclusion(line: dict[str, str], row: Row, quant: Quant | None, model: ModelProfile | None) -> str:  # noqa: PLR0911
    """Why a row does not count as plain decoding by llama.cpp on one device; the first reason that holds."""
    on_cpu = row.kind == "cpu"
    if line["repeat"] == "1":
        return "repeats another row's speed"
    if line["confidence"] == "low":
        return "doubtful (confidence low)"
    if line["n_gpu"] != ("0" if on_cpu and line["n_gpu"] == "0" else "1"):
        return "several devices"
    if not on_cpu and not GPU_ONLY.match(line["offload"]):
        return "partly on the processor"
    if not row.bandwidth:
        return "bandwidth of the device unknown"
    if model is None or quant is None:
        return "model or quant not identifiable"
    if line["backend"] == "cpu" and not on_cpu:
        return "contradicts itself (backend cpu, all on the GPU)"
    return wrong_size(line, row, model) or other_runtime(line)


OTHER_RUNTIME = "another runtime"


def other_runtime(line: dict[str, str]) -> str:
    """Ollama counts where it runs llama.cpp: not its MLX tags, nor formats that llama.cpp has not."""
    ours = line["runtime"].lower().startswith(("llama.cpp", "ollama"))
    return "" if ours and "mlx" not in line["quant"].lower() and "NVFP4" not in line["quant"] else OTHER_RUNTIME


RUNTIMES_OF_THEIR_OWN = ("vllm", "apple-mlx")


def runtimes() -> list[Row]:
    """Rows of other runtimes that have a class: they are fitted and judged apart."""
    return [row for row in measured() if row.excluded == OTHER_RUNTIME and row.kind in RUNTIMES_OF_THEIR_OWN]


def wrong_size(line: dict[str, str], row: Row, model: ModelProfile) -> str:
    stated = number(line["weights_gib"]) * GIB
    listed = {quant.name: quant.bytes for quant in model.quants}.get(row.quant.strip("~"))
    if stated and listed and abs(stated / listed - 1) > OTHER_FILE:
        return "stated size contradicts the quant"
    return "impossible: faster than the memory" if row.read * row.tokens_per_s > row.bandwidth else ""


def others() -> Iterator[Row]:
    """Dense models of other families, for what their speed says of a device's memory: weights at their usual size."""
    for line in table("others.csv"):
        parameters = float(line["parameters_b"])
        size = parameters * GB * OTHER_BITS[line["quant"]] / 8
        device, memory = line["device"], number(line["memory_gb"])
        row = Row(
            id=line["row_id"],
            device=device,
            kind=kind_of(line["class"], line["backend"], device, line["runtime"]),
            model=line["model"],
            quant=line["quant"],
            bandwidth=number(line["bandwidth_gb_s"]) * GB,
            cores=int(number(line["cores"])),
            simd=line["simd"],
            memory_gb=memory,
            read=size,
            cache=0.0,
            layers=float(line["layers"]) * OTHER_LAYER_SHARE,
            moe_layers=0,
            depth=int(number(line["prompt_tokens"])),
            tokens_per_s=float(line["tokens_per_s"]),
            gemma=False,
            runtime=line["runtime"],
        )
        yield row._replace(excluded=other_exclusion(row))


OTHER_BITS = {"Q2_K": 3.0, "Q3_K_M": 3.95, "Q4_0": 4.6, "Q4_K_S": 4.6, "Q4_K_M": 4.85, "Q5_K_M": 5.7, "Q6_K": 6.56,
              "Q8_0": 8.5, "F16": 16.0, "BF16": 16.0}  # fmt: skip

DEEP = 2048
"""Other models' caches are not modelled, so rows deeper than this do not count."""


def other_exclusion(row: Row) -> str:
    if float(row.read) < SMALL_BODIES * GB * OTHER_BITS[row.quant] / 8:
        return "small model of another family"
    if row.runtime == "ollama":
        return "quant assumed"
    if row.depth > DEEP:
        return "deep in a context of another model"
    if row.memory_gb and row.read * 1.15 > row.memory_gb * GIB:
        return "does not fit the card"
    return "impossible: faster than the memory" if row.read * row.tokens_per_s > row.bandwidth else ""
