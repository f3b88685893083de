"""What may be filled, and what goes where."""

import msgspec
import pytest

from advisor.knowledge.catalog import load
from advisor.machine import Gpu
from advisor.memory.footprint import GIB, MIB, Footprint, Shape, footprint
from advisor.memory.placement import budget, place, single_copy
from tests.head.machines import real, simulated

CATALOG = load()


def need(model: str, context: int = 8192, *, drafter: bool = False) -> Footprint:
    profile = CATALOG.models[model]
    quant = next(quant for quant in profile.quants if quant.name == "QAT-UD-Q4_K_XL")
    return footprint(
        profile.architecture,
        quant,
        Shape(context_tokens=context),
        drafter=profile.drafter if drafter else None,
        drafter_file=profile.drafter.files[0] if drafter else None,
    )


@pytest.mark.parametrize(
    ("spec", "device", "host"),
    [
        ("RTX 4090, 64GB", 22.5, 61),  # less 1 GiB, less a desktop's half; less the system's 3
        ("2x RTX 3090, 128GB", 45, 125),
        ("M3 Max 64GB", 48, 61),  # 3/4 of it may be wired for the GPU
        ("M1 8GB", 16 / 3, 6),  # 2/3 below 36 GiB
        ("cpu, 16GB", 0, 13),
    ],
)
def test_budget(spec: str, device: float, host: float) -> None:
    found = budget(simulated(spec))
    assert found.device == pytest.approx(device * GIB, abs=1)
    assert found.host == host * GIB


def test_budget_is_the_containers_not_the_hosts() -> None:
    machine = real()
    limited = msgspec.structs.replace(
        machine, memory=msgspec.structs.replace(machine.memory, limit_bytes=8 * GIB, limit_source="cgroup v2")
    )
    assert budget(limited).host == 7.5 * GIB
    assert "8.0 GiB by cgroup v2" in budget(limited).notes[0]


def test_budget_is_what_is_free_now() -> None:
    machine = real()
    busy = msgspec.structs.replace(machine, memory=msgspec.structs.replace(machine.memory, available_bytes=5 * GIB))
    assert budget(busy).host == 5 * GIB


def test_budget_ignores_an_integrated_gpu_beside_a_card() -> None:
    card = simulated("RTX 4090, 64GB").gpus[0]
    chip = Gpu(
        name="UHD", vendor="intel", index=1, memory_total_bytes=32 * GIB, memory_free_bytes=32 * GIB, integrated=True
    )
    machine = msgspec.structs.replace(real(memory=64), gpus=(card, chip))
    assert budget(machine).cards == (23 * GIB,)
    assert not budget(machine).unified


def test_budget_of_a_backend_that_has_no_gpu() -> None:
    assert budget(simulated("RTX 4090, 64GB"), gpu=False).cards == ()


def test_all_on_the_gpu() -> None:
    found = place(need("26b"), budget(simulated("RTX 4090, 64GB")))
    assert found is not None
    assert (found.mode, found.gpu_layers, found.cpu_expert_layers) == ("gpu", 31, 0)
    # The file's tensors (13,574 MiB), KV cache 460, compute 106; embedding, tokenizer, logits and inputs on the host.
    assert found.device_bytes / MIB == pytest.approx(13574 + 460 + 106, abs=3)
    assert found.host_bytes / MIB == pytest.approx(0.738e9 * 4.5 / 8 / MIB + 15 + 1 + 31.5, rel=0.01)


def test_lookup_tables_stay_off_the_gpu() -> None:
    """E2B's file is 2.62 GB, but only 1.3 GB of it are in graphics memory."""
    load_ = need("e2b")
    found = place(load_, budget(simulated("RTX 4090, 64GB")))
    assert found is not None
    weights = found.device_bytes - load_.kv_cache - load_.compute
    assert weights == pytest.approx(1.283e9, rel=0.002)
    assert found.host_bytes == pytest.approx(1.32e9 + 0.227e9 + 0.017e9 + 41.5 * MIB, rel=0.002)


def test_experts_leave_first() -> None:
    """Just as many layers' experts as must, and the GPU is full to within one of them."""
    limits = budget(simulated("RTX 3060 12GB, 32GB"))
    found = place(need("26b", drafter=True), limits)
    assert found is not None
    assert found.mode == "experts-on-cpu"
    assert 8 <= found.cpu_expert_layers <= 12
    assert 0 <= found.headroom_bytes < 460 * MIB


def test_dense_layers_are_split() -> None:
    found = place(need("31b"), budget(simulated("RTX 4060 Ti 16GB, 32GB")))
    assert found is not None
    assert found.mode == "split"
    assert 40 <= found.gpu_layers < 60
    assert found.device_bytes <= found.budget_bytes


def test_processor_holds_one_copy() -> None:
    load_ = need("26b")
    found = place(load_, budget(simulated("cpu, 32GB")))
    assert found is not None
    assert (found.mode, found.device_bytes) == ("cpu", 0)
    assert found.host_bytes == load_.weights.file + load_.kv_cache + load_.compute


def test_nothing_is_placed_where_nothing_fits() -> None:
    assert place(need("31b"), budget(simulated("cpu, 16GB"))) is None


def test_two_cards_are_one_budget_with_a_price() -> None:
    single, double = budget(simulated("RTX 3090, 128GB")), budget(simulated("2x RTX 3090, 128GB"))
    load_ = need("31b")
    one, two = place(load_, single), place(load_, double)
    assert one is not None
    assert two is not None
    assert two.device_bytes - one.device_bytes > load_.compute


def test_least_memory_counts_one_copy() -> None:
    load_ = need("26b")
    assert single_copy(load_) == load_.weights.file + load_.kv_cache + load_.compute
