"""What `profiles/speed.json` says: how each class of device turns bandwidth and arithmetic into tokens.

Fitted on public measurements by `profiles/measurements/fit.py`, which prints how far off they are on devices that they
were not fitted on.
"""

from __future__ import annotations

import functools
from importlib.resources import files

import msgspec

from advisor.errors import ProfileError
from advisor.machine import Record


class GpuClass(Record, frozen=True, kw_only=True):
    """How a class of GPU and runtime turns its bandwidth into tokens.

    `efficiency`, `cache_efficiency`: shares of the specified bandwidth at which weights and the cache are read.
    `layer_us`: fixed time of a layer in microseconds: launches, small matrices; `expert_layer_us`: more with routed
    experts. `slower`, `faster`: four in five measurements lie within, as logarithms. `rows`, `devices`: what it was
    fitted on; `rows_of_other_models` helped.
    """

    efficiency: float
    layer_us: float
    expert_layer_us: float
    cache_efficiency: float
    slower: float
    faster: float
    rows: int
    rows_of_other_models: int
    devices: int


class CpuClass(Record, frozen=True, kw_only=True):
    """The same for processors. `core_bytes_per_s`: weights that one core can multiply, by its widest instructions."""

    efficiency: float
    core_bytes_per_s: dict[str, float]
    layer_us: float
    cache_efficiency: float
    slower: float
    faster: float
    rows: int
    rows_of_other_models: int
    devices: int


class PromptClass(Record, frozen=True, kw_only=True):
    """Reading a prompt. `share`: of the FP16 peak, by class of GPU. `experts_share`: of that, what an MoE reaches.
    `core_flops`: of one core, by its widest instructions."""

    share: dict[str, float]
    experts_share: float
    core_flops: dict[str, float]
    rows: dict[str, int]


class DraftingClass(Record, frozen=True, kw_only=True):
    """What drafting costs. `row_cost`: of each further row verified, relative to reading the dense weights, by class of
    GPU. `draft_layers`: fixed time of a drafted token in layers of the class. `round_cost`: of a round, in plain steps,
    by runtimes that pay one. `slower`, `faster`: of the gain, as logarithms."""

    row_cost: dict[str, float]
    draft_layers: float
    round_cost: dict[str, float]
    slower: float
    faster: float
    rows: int


class Constants(Record, frozen=True, kw_only=True):
    """`profiles/speed.json`."""

    note: str
    gpus: dict[str, GpuClass]
    cpu: CpuClass
    prompt: PromptClass
    drafting: DraftingClass


@functools.cache
def constants() -> Constants:
    """Raises: ProfileError: the file is missing or not what the fit writes."""
    try:
        return msgspec.json.decode((files("profiles") / "speed.json").read_bytes(), type=Constants)
    except (OSError, msgspec.DecodeError) as error:
        raise ProfileError(
            f"profiles/speed.json: {error}", hint="Write it with: python -m profiles.measurements.fit"
        ) from error
