"""Classes of bug: the host's memory reported inside a container; file cache counted as used; WSL taken for all."""

import pytest

from advisor.hardware.probes import memory
from advisor.hardware.probes.host import Findings, Replay
from tests.probes.machines import GIB, findings, machine, said, with_files

V1 = "/sys/fs/cgroup/memory"


def test_container_limit_instead_of_the_hosts_memory() -> None:
    found = machine("docker-v2")
    assert found.memory.limit_bytes == 8 * GIB
    assert found.memory.limit_source == "cgroup /sys/fs/cgroup/memory.max"
    assert found.environment == "container"
    assert found.basis["memory.limit_bytes"] == "measured"
    assert "8.0 GiB of 62.8 GiB" in said(found.problems)


def test_inactive_file_cache_counts_as_available() -> None:
    assert machine("docker-v2").memory.available_bytes == 8 * GIB - (3221225472 - 1610612736)


def test_memory_high_is_a_limit_too() -> None:
    found = with_files("docker-v2", files={"/sys/fs/cgroup/memory.high": str(4 * GIB)})
    assert machine(found).memory.limit_bytes == 4 * GIB


def test_tightest_ancestor_wins() -> None:
    found = machine("kubernetes-nested-v2").memory
    assert found.limit_bytes == 16_000_000_000
    assert found.available_bytes == 16_000_000_000 - 2_000_000_000


def test_the_fullest_ancestor_bounds_what_is_available() -> None:
    files = {"/sys/fs/cgroup/kubepods.slice/memory.current": "119000000000"}
    found = machine(with_files("kubernetes-nested-v2", files=files)).memory
    assert (found.limit_bytes, found.available_bytes) == (16_000_000_000, 1_000_000_000)


def test_version_1_reads_the_limit_of_hidden_ancestors() -> None:
    found = machine("docker-v1").memory
    assert found.limit_bytes == 6442450944
    assert found.available_bytes == 6442450944 - 1_000_000_000
    assert machine("docker-v1").environment == "container"


def test_version_1_own_limit() -> None:
    found = machine(with_files("docker-v1", files={f"{V1}/memory.limit_in_bytes": str(2 * GIB)})).memory
    assert found.limit_bytes == 2 * GIB


def test_both_versions_at_once() -> None:
    """A hybrid hierarchy: version 2 is mounted without a memory controller, version 1 holds the limit."""
    mounts = (
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    )
    files = {
        "/proc/meminfo": "MemTotal: 24684092 kB\nMemAvailable: 22000000 kB",
        "/proc/self/cgroup": "4:memory:/jobs/a\n0::/",
        "/proc/self/mountinfo": mounts,
        f"{V1}/jobs/a/memory.limit_in_bytes": "9223372036854771712",
        f"{V1}/jobs/memory.limit_in_bytes": str(3 * GIB),
    }
    assert machine(Findings(system="Linux", files=files)).memory.limit_bytes == 3 * GIB


@pytest.mark.parametrize("group", ["0::/../..", "0::/..", "0::", "", "nonsense", "0::/a/b/c"])
def test_a_group_outside_what_is_mounted_means_the_mount(group: str) -> None:
    found = with_files("docker-v2", files={"/proc/self/cgroup": group})
    assert machine(found).memory.limit_bytes == 8 * GIB


@pytest.mark.parametrize("limit", ["max", "", "9223372036854771712", "-1", "0", "junk", str(1 << 70), str(63 * GIB)])
def test_no_limit(limit: str) -> None:
    found = with_files("docker-v2", files={"/sys/fs/cgroup/memory.max": limit})
    assert machine(found).memory.limit_bytes is None


def test_a_desktop_session_has_no_limit() -> None:
    found = machine("rx7900xtx")
    assert found.memory.limit_bytes is None
    assert found.environment == "native"
    assert found.memory.total_bytes == 65600548 * 1024
    assert found.memory.available_bytes == 57841236 * 1024


def test_a_service_called_docker_is_no_container() -> None:
    found = with_files("rx7900xtx", files={"/proc/self/cgroup": "0::/system.slice/docker.service"})
    assert machine(found).environment == "native"


def test_wsl_is_told_and_is_no_container() -> None:
    found = machine(with_files("wsl", environ={"container": "wsl"}))
    assert found.environment == "wsl"
    assert ".wslconfig" in said(found.problems)
    bare = with_files("wsl")
    assert memory.is_wsl(Replay(Findings(system="Linux", files=bare.files)))


def test_old_kernels_have_no_mem_available() -> None:
    files = {"/proc/meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 300 kB"}
    assert machine(Findings(system="Linux", files=files)).memory.available_bytes == 420 * 1024


def test_unreadable_meminfo_falls_back_and_says_so_when_nothing_tells() -> None:
    found = findings("docker-v2")
    files = {path: text for path, text in found.files.items() if path != "/proc/meminfo"}
    assert machine(Findings(system="Linux", files=files, physical_bytes=(64 * GIB, GIB))).memory.total_bytes == 64 * GIB
    assert "not readable" in said(machine(Findings(system="Linux", files={})).problems)
