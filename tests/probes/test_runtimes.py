"""GPUs that only a runtime knows, and runtimes that do not know the GPU."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from advisor.choice import estimate, subject
from advisor.choice.ranking import Request, rank
from advisor.choice.request import choose_backend
from advisor.hardware import detection
from advisor.hardware.probes import runtimes
from advisor.knowledge import catalog
from advisor.machine import Availability, Gpu, RuntimeDevice
from tests.probes.machines import DEVICES, machine

GIB = 1 << 30


def device(name: str, description: str, total: int = 16 * GIB) -> RuntimeDevice:
    return RuntimeDevice(name=name, description=description, memory_total_bytes=total, memory_free_bytes=total - GIB)


def backend(*devices: RuntimeDevice, name: str = "llama.cpp") -> Availability:
    return Availability(name=name, available=True, version="b11000", drafter=True, path="/x", devices=devices)


CARD = Gpu(
    name="NVIDIA GeForce RTX 4090",
    vendor="nvidia",
    index=0,
    memory_total_bytes=24 * GIB,
    memory_free_bytes=23 * GIB,
)


def test_two_equal_cards_that_no_probe_found() -> None:
    arc = [device(f"SYCL{n}", "Intel(R) Arc(TM) A770 Graphics") for n in range(2)]
    found = runtimes.probe([backend(*arc)], [])
    assert [(gpu.vendor, gpu.index, gpu.memory_total_bytes) for gpu in found.gpus] == [
        ("intel", 0, 16 * GIB),
        ("intel", 1, 16 * GIB),
    ]
    assert found.gpus[0].memory_free_bytes == 15 * GIB
    assert found.assumed == ("0.memory_free_bytes", "1.memory_free_bytes")


@pytest.mark.parametrize(
    "devices",
    [
        [device("Vulkan0", "Intel(R) UHD Graphics 770")],
        [device("Vulkan0", "AMD Radeon 780M (RADV PHOENIX)")],
        [device("Vulkan0", "AMD Radeon Graphics (RADV RENOIR)")],
        [device("Vulkan0", "Adreno (TM) 740")],
        [device("Vulkan0", "AMD Radeon RX 560", 1 << 29)],
        [],
    ],
)
def test_what_has_no_memory_of_its_own_is_no_gpu(devices: list[RuntimeDevice]) -> None:
    assert runtimes.probe([backend(*devices)], []).gpus == ()


def test_a_card_under_another_name_is_not_counted_twice() -> None:
    listed = [device("CUDA0", "NVIDIA GeForce RTX 4090"), device("Vulkan0", "NVIDIA RTX 4090 (NVK AD102)")]
    assert runtimes.probe([backend(*listed)], [CARD]).gpus == ()
    assert [gpu.name for gpu in runtimes.probe([backend(*listed)], []).gpus] == ["NVIDIA GeForce RTX 4090"]
    twice = [backend(listed[0]), backend(listed[1], name="other")]
    assert len(runtimes.probe(twice, []).gpus) == 1


def test_a_build_without_the_gpu_is_said() -> None:
    found = runtimes.probe([backend()], [CARD])
    assert found.gpus == ()
    assert "leaves NVIDIA GeForce RTX 4090 idle" in found.problems[0].message
    assert runtimes.probe([backend()], []).problems == ()
    silent = Availability(name="x", available=True)
    assert runtimes.probe([silent], [CARD]).problems == ()


def test_such_a_build_is_reckoned_with_the_processor() -> None:
    seen = msgspec.structs.replace(machine("docker-4090", devices=DEVICES), backends=(backend(),))
    known = catalog.load()
    idle = "runs on the processor only"
    with_gpu = msgspec.structs.replace(seen, backends=(backend(device("CUDA0", CARD.name)),))
    for where, mode in ((seen, "cpu"), (with_gpu, "gpu")):
        chosen = choose_backend(None, where, known.use_case("chat"))
        about = subject.from_catalogue(known.model("e2b"), None)
        asked = estimate.question(about, chosen, context=4096)
        found = estimate.estimate(about, asked, None, "", machine=where, catalog=known)
        assert found.placement.mode == mode
        assert any(idle in warning for warning in found.warnings) is (mode == "cpu")
        pick = rank(Request(model="e2b", context_tokens=4096), where, known).recommendations[0]
        assert (pick.candidate.placement.mode == "cpu") is (mode == "cpu")
        assert any(idle in warning for warning in pick.warnings) is (mode == "cpu")


def program(folder: Path, listed: str) -> Path:
    path = folder / "llama-server"
    path.write_text(
        f"""#!/bin/sh
echo "$1" >> {folder}/asked
case "$1" in
  --version) echo "version: 11000 (abc)";;
  --help) echo "--spec-type draft-mtp --list-devices";;
  --list-devices) cat <<'END'
Available devices:
  {listed}
END
esac
"""
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_detection_joins_what_the_runtime_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    listed = "Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24000 MiB free)"
    monkeypatch.setenv("LLAMA_SERVER", str(program(tmp_path, listed)))
    for _ in range(2):
        found = detection.detect(DEVICES)
        joined = [gpu for gpu in found.gpus if gpu.vendor == "amd"]
        assert [gpu.memory_total_bytes for gpu in joined] == [24560 << 20]
        place = found.gpus.index(joined[0])
        assert joined[0].bandwidth_bytes_per_s and joined[0].device
        assert found.basis[f"gpus.{place}.memory_total_bytes"] == "measured"
        assert found.basis[f"gpus.{place}.memory_free_bytes"] == "assumed"
        assert next(each for each in found.backends if each.name == "llama.cpp").build == "Vulkan"
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["--version", "--help", "--list-devices"], "asked once, whoever asks"


def test_a_runtime_that_fails_costs_its_devices_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = program(tmp_path, "")
    path.write_text(path.read_text().replace("cat <<'END'", "kill -SEGV $$; cat <<'END'"))
    monkeypatch.setenv("LLAMA_SERVER", str(path))
    found = detection.detect(DEVICES)
    here = next(each for each in found.backends if each.name == "llama.cpp")
    assert here.available and here.devices is None
    assert not any("probe failed" in problem.message for problem in found.problems)
