"""Whatever the machine and the request: an answer that holds, or an error that explains."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.choice.ranking import Ranking, rank
from advisor.choice.request import Request
from advisor.choice.score import score
from advisor.choice.trades import trades
from advisor.errors import AdvisorError
from advisor.knowledge.catalog import load
from advisor.machine import Availability, Cpu, Gpu, Machine, Memory
from advisor.pages.report import document

CATALOG = load()
GIB = 1 << 30

sizes = st.one_of(st.integers(0, 2 << 40), st.integers(4 * GIB, 128 * GIB), st.sampled_from([8 * GIB, 64 * GIB]))
rates = st.one_of(st.none(), st.integers(1, 20 * 10**12))
BACKENDS = ("llama.cpp", "ollama", "native", "mine")


@st.composite
def gpus(draw: st.DrawFn, index: int) -> Gpu:
    total = draw(st.one_of(st.integers(0, 300 * GIB), st.sampled_from([0, 4 * GIB, 8 * GIB, 16 * GIB, 24 * GIB])))
    return Gpu(
        name=draw(st.sampled_from(["GeForce RTX 4090", "Arc B580", "something new", ""])),
        vendor=draw(st.sampled_from(["nvidia", "amd", "intel", "apple", "other"])),
        index=index,
        memory_total_bytes=total,
        memory_free_bytes=total - draw(st.integers(0, total)) // draw(st.sampled_from([1, 10, 100])),
        bandwidth_bytes_per_s=draw(rates),
        integrated=draw(st.booleans()),
        device=draw(st.sampled_from([None, "rtx-4090", "arc-b580", "no-such-device"])),
    )


@st.composite
def machines(draw: st.DrawFn, *, cards: int | None = None, apart: bool = False) -> Machine:
    """Any machine; with so many `cards`, and with main memory `apart` from theirs."""
    total = draw(sizes)
    cores = draw(st.integers(1, 512))
    count = draw(st.integers(0, 3)) if cards is None else cards
    return Machine(
        os=draw(st.sampled_from(["linux", "macos", "windows"])),
        simulated=draw(st.booleans()),
        cpu=Cpu(
            name="any",
            cores=cores,
            threads=cores,
            features=draw(st.sampled_from([(), ("avx2",), ("avx2", "avx512f"), ("neon",), ("sse2",)])),
        ),
        memory=Memory(
            total_bytes=total,
            available_bytes=total - draw(st.integers(0, total)) // draw(st.sampled_from([1, 10, 100])),
            limit_bytes=draw(st.one_of(st.none(), st.none(), st.integers(1, 2 << 40))),
            bandwidth_bytes_per_s=draw(rates),
            unified=not apart and draw(st.booleans()),
        ),
        gpus=tuple(draw(gpus(index)) for index in range(count)),
        backends=tuple(
            Availability(name=name, available=draw(st.booleans()), drafter=draw(st.booleans()))
            for name in draw(st.sets(st.sampled_from(BACKENDS)))
        ),
    )


wild = st.builds(
    Request,
    use_case=st.sampled_from([*CATALOG.use_cases, "no such thing"]),
    context_tokens=st.one_of(st.none(), st.integers(-1, 300_000)),
    prefer=st.sampled_from([None, "balanced", "quality", "speed"]),
    min_tokens_per_s=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    backend=st.sampled_from([None, *BACKENDS]),
    model=st.sampled_from([None, *CATALOG.models, "13b"]),
    drafter=st.booleans(),
    reserve_bytes=st.one_of(st.none(), st.integers(-1, 64 * GIB)),
)
"""What a program may send by mistake."""

plausible = st.builds(
    Request,
    use_case=st.sampled_from([*CATALOG.use_cases]),
    context_tokens=st.sampled_from([None, None, 1, 4096, 32_768, 131_072, 262_144]),
    prefer=st.sampled_from([None, "balanced", "quality", "speed"]),
    min_tokens_per_s=st.sampled_from([None, None, None, 0.0, 5.0, 30.0]),
    model=st.sampled_from([None, None, None, *CATALOG.models]),
    drafter=st.booleans(),
    reserve_bytes=st.one_of(st.none(), st.none(), st.integers(0, 4 * GIB)),
)

relaxed = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def answer(request: Request, machine: Machine) -> Ranking | None:
    try:
        return rank(request, machine, CATALOG)
    except AdvisorError as error:
        assert error.message
        assert error.exit_code in (2, 3, 4)
        return None


@relaxed
@given(machines(), st.one_of(plausible, plausible, wild))
def test_an_answer_that_holds_or_an_error(machine: Machine, request: Request) -> None:
    ranking = answer(request, machine)
    if ranking is None:
        return
    found = document(ranking)
    assert found.recommendations[0].roles[0] == "pick"
    for entry in found.recommendations:
        numbers = [*numbers_of(entry.memory), *numbers_of(entry.speed), entry.quality.score]
        assert all(number >= 0 for number in numbers), entry
        assert entry.memory.headroom_bytes <= entry.memory.budget_bytes
        assert entry.memory.device_bytes + entry.memory.host_bytes == entry.memory.total_bytes
        assert entry.speed.low <= entry.speed.decode_tokens_per_s <= entry.speed.high
    for one in ranking.recommendations:
        placed, limits = one.candidate.placement, one.candidate.limits
        assert placed.device_bytes <= limits.device
        assert limits.unified or placed.host_bytes <= limits.host
        if ranking.terms.floor_given:
            assert one.candidate.speed.decode >= ranking.terms.min_tokens_per_s
    assert all(line for line in trades(ranking.recommendations[0].candidate, [ranking.recommendations[0].candidate]))
    assert {entry.code for entry in found.rejected} <= {"memory", "speed", "capability", "backend"}
    assert all(entry.reason for entry in found.rejected)
    assert msgspec.json.decode(msgspec.json.encode(found))


def numbers_of(part: msgspec.Struct) -> list[float]:
    return [value for name in part.__struct_fields__ if isinstance(value := getattr(part, name), int | float)]


@relaxed
@given(machines(apart=True), plausible, st.integers(1, 64 * GIB))
def test_more_main_memory_is_never_worse(machine: Machine, request: Request, more: int) -> None:
    memory = machine.memory
    larger = msgspec.structs.replace(
        memory,
        total_bytes=memory.total_bytes + more,
        available_bytes=memory.available_bytes + more,
        limit_bytes=None if memory.limit_bytes is None else memory.limit_bytes + more,
    )
    no_worse(request, machine, msgspec.structs.replace(machine, memory=larger))


@relaxed
@given(machines(cards=1, apart=True), plausible, st.integers(1, 64 * GIB))
def test_more_memory_on_the_card_is_never_worse(machine: Machine, request: Request, more: int) -> None:
    (gpu,) = machine.gpus
    larger = msgspec.structs.replace(
        gpu, memory_total_bytes=gpu.memory_total_bytes + more, memory_free_bytes=gpu.memory_free_bytes + more
    )
    no_worse(request, machine, msgspec.structs.replace(machine, gpus=(larger,)))


def no_worse(request: Request, machine: Machine, larger: Machine) -> None:
    before = answer(request, machine)
    if before is None:
        return
    after = answer(request, larger)
    assert after is not None, "what could be answered still can"
    old, new = (score(one.recommendations[0].candidate, one.terms) for one in (before, after))
    assert new >= old - 1e-9
