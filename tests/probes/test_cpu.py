"""Classes of bug: threads counted as cores; a container's share ignored; ARM's names unknown."""

from advisor.hardware.probes.host import Findings
from tests.probes.machines import machine, said, with_files


def test_hyperthreads_are_not_cores() -> None:
    cpu = machine("rx7900xtx").cpu
    assert (cpu.name, cpu.vendor, cpu.cores, cpu.threads) == ("AMD Ryzen 9 7950X 16-Core Processor", "amd", 2, 4)
    assert {"avx2", "fma", "f16c", "avx512_vnni", "avx512_bf16", "avx512vbmi"} <= set(cpu.features)


def test_amx() -> None:
    assert {"amx_tile", "amx_int8", "amx_bf16"} <= set(machine("docker-v2").cpu.features)


def test_cpu_quota_of_a_container() -> None:
    found = machine("docker-v2")
    assert (found.cpu.cores, found.cpu.threads) == (2, 2)
    assert "2 of 4 hardware threads" in said(found.problems)


def test_fractions_of_a_processor_are_one() -> None:
    assert machine(with_files("docker-v2", files={"/sys/fs/cgroup/cpu.max": "50000 100000"})).cpu.threads == 1


def test_quota_of_version_1() -> None:
    folder = "/sys/fs/cgroup/cpu,cpuacct"
    files = {f"{folder}/cpu.cfs_quota_us": "-1", f"{folder}/cpu.cfs_period_us": "100000"}
    assert machine(with_files("docker-v1", files=files)).cpu.threads == 1


def test_affinity() -> None:
    status = "Name: x\nCpus_allowed_list:\t0,2-3"
    files = {"/proc/self/status": status, "/sys/fs/cgroup/cpu.max": "max 100000"}
    found = machine(with_files("docker-v2", files=files))
    assert found.cpu.threads == 3
    assert "affinity" in said(found.problems)


def test_arm_board() -> None:
    cpu = machine("raspberry-pi-5").cpu
    assert cpu.name == "Raspberry Pi 5 Model B Rev 1.0"
    assert (cpu.cores, cpu.threads, cpu.features) == (2, 2, ("neon", "fp16", "dotprod"))


def test_arm_part_names_the_fastest_core() -> None:
    cpu = machine("gb10").cpu
    assert (cpu.name, cpu.vendor, cpu.cores) == ("Cortex-X925", "arm", 2)
    assert {"sve", "sve2", "i8mm", "bf16", "dotprod"} <= set(cpu.features)


def test_apple() -> None:
    cpu = machine("m3-max").cpu
    assert (cpu.name, cpu.vendor, cpu.cores, cpu.threads) == ("Apple M3 Max", "apple", 16, 16)
    assert cpu.features == ("neon", "dotprod", "fp16", "i8mm", "bf16")
    assert "i8mm" not in machine("m1").cpu.features


def test_windows() -> None:
    cpu = machine("windows").cpu
    assert (cpu.name, cpu.cores, cpu.threads) == ("AMD Ryzen 7 7700X 8-Core Processor", 8, 16)
    assert {"avx2", "fma", "f16c", "avx512f"} <= set(cpu.features)


def test_nothing_readable_is_one_core_and_a_problem() -> None:
    for system in ("Linux", "Darwin", "Windows"):
        found = machine(Findings(system=system, arch="x86_64"))
        assert found.cpu.cores == 1
        assert any(problem.probe == "cpu" for problem in found.problems)
