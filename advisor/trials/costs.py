"""What a calibration found: seconds of steps with 1 to 16 tokens and of a prompt, by model and device."""

from __future__ import annotations

from advisor.machine import Record
from advisor.prediction.pace import CPU, GPU, WIDE, WIDER, disturbed


class Costs(Record, frozen=True, kw_only=True):
    """Of one model. `seconds`: of a step by its rows with nothing in the way, of `times`; `usual`: their medians;
    `bytes`: of the model's file, about what one step of a single row reads; `placement`: where it was; `prompt_tokens`:
    of the prompt that it read in `prompt_s`."""

    model: str
    seconds: dict[int, float]
    usual: dict[int, float] = {}
    times: int
    bytes: int
    placement: str = CPU
    prompt_tokens: int = 0
    prompt_s: float = 0.0

    @property
    def prompt_tokens_per_s(self) -> float | None:
        return self.prompt_tokens / self.prompt_s if self.prompt_s else None

    @property
    def where(self) -> str:
        """The model, and the device where it is not the processor."""
        return self.model if self.placement == CPU else f"{self.model} on the GPU"

    @property
    def relative(self) -> dict[int, float]:
        """Costs in steps of a single row."""
        return {rows: taken / self.seconds[1] for rows, taken in self.seconds.items()}

    @property
    def disturbed(self) -> float:
        """As `pace.disturbed`."""
        return disturbed(self.seconds, self.usual)

    @property
    def bytes_per_s(self) -> float:
        """At which weights go by in a step of one row."""
        return self.bytes / self.seconds[1]


class Calibration(Record, frozen=True, kw_only=True):
    """`memory_bytes_per_s`: main memory read by all cores; None where it cannot be measured. `gpu_bytes_per_s`: at
    which a GPU reads weights, by what further layers take. `untimed`: why the GPU could not be timed, where there is
    one."""

    machine: str
    build: str
    memory_bytes_per_s: int | None
    costs: tuple[Costs, ...]
    untimed: str = ""

    def cost(self, model: str, placement: str) -> Costs | None:
        """Of that model there."""
        return next((one for one in self.costs if (one.model, one.placement) == (model, placement)), None)

    @property
    def gpu_bytes_per_s(self) -> float | None:
        few, more = self.cost(WIDE, GPU), self.cost(WIDER, GPU)
        if few is None or more is None or more.seconds[1] <= few.seconds[1]:
            return None
        return (more.bytes - few.bytes) / (more.seconds[1] - few.seconds[1])
