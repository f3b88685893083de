"""Main memory: what there is, what is free, and what a container or WSL leaves of it.

A container sees the host's /proc/meminfo, so the limit is looked for in the control groups: version 2, version 1 or
both at once, from this process's group up to the root, and the tightest wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from advisor.hardware.probes.host import Host, size
from advisor.machine import Memory, Problem

UNLIMITED = 1 << 60
"""Version 1 writes 'no limit' as the largest page-aligned number, about 2^63; anything from here on is none."""

ENGINES = re.compile(r"/docker[/-]|kubepods|cri-containerd|libpod|/lxc[./]")
"""How the groups of containers are named; a service called docker.service, or a program of that name, is none."""

KUBELET = "/var/run/secrets/kubernetes.io"


class Limit(NamedTuple):
    """A control group's limit and what counts against it, in bytes; `file` is where the limit is written."""

    limit: int
    used: int
    file: str


def probe(host: Host) -> tuple[Memory, tuple[Problem, ...]]:
    """Main memory in bytes: /proc/meminfo on Linux, psutil elsewhere; never raises, zeros where nothing is told."""
    total, available = _physical(host)
    problems = [] if total else [Problem(probe="memory", message="the size of the main memory is not readable")]
    limits = (
        [found for found in limits_of(host) if found.limit < (total or UNLIMITED)] if host.system == "Linux" else []
    )
    for found in limits:
        available = min(available, max(found.limit - found.used, 0))
    if not limits:
        memory = Memory(total_bytes=total, available_bytes=min(available, total))
        return memory, (*problems, *_wsl_note(host, total))
    tightest = min(limits, key=lambda found: found.limit)
    kind = "a container" if environment(host) == "container" else "a control group"
    note = Problem(
        probe="memory",
        message=f"{kind} limits memory to {tightest.limit / 2**30:.1f} GiB of {total / 2**30:.1f} GiB",
        hint=f"the limit is in {tightest.file}; start the container with more memory to use larger models",
    )
    memory = Memory(
        total_bytes=total,
        available_bytes=min(available, total),
        limit_bytes=tightest.limit,
        limit_source=f"cgroup {tightest.file}",
    )
    return memory, (*problems, note)


def environment(host: Host) -> str:
    """`container`, `wsl` or `native`."""
    groups = host.read("/proc/1/cgroup") + host.read("/proc/self/cgroup")
    marks = (
        ".dockerenv" in host.names("/"),
        bool(host.names(KUBELET)),
        bool(host.read("/run/.containerenv")) or ".containerenv" in host.names("/run"),
        "KUBERNETES_SERVICE_HOST" in host.environ,
        # WSL sets `container=wsl`, which is no container in this sense.
        host.environ.get("container", "wsl") != "wsl",
        bool(ENGINES.search(groups)),
        # Where systemd is the first process of a container (LXC, nspawn), it writes down which kind it is in.
        host.read("/run/systemd/container") not in ("", "wsl"),
    )
    if host.system == "Linux" and any(marks):
        return "container"
    return "wsl" if is_wsl(host) else "native"


def is_wsl(host: Host) -> bool:
    """Whether this Linux runs under Windows (WSL 1 and 2 both write Microsoft's name into the kernel's version)."""
    return host.system == "Linux" and (
        "WSL_DISTRO_NAME" in host.environ or "microsoft" in host.read("/proc/version").lower()
    )


def _wsl_note(host: Host, total: int) -> tuple[Problem, ...]:
    if not is_wsl(host):
        return ()
    message = f"WSL gives Linux {total / 2**30:.1f} GiB; Windows keeps the rest (half, unless told otherwise)"
    return (Problem(probe="memory", message=message, hint="set memory= under [wsl2] in %UserProfile%\\.wslconfig"),)


def _physical(host: Host) -> tuple[int, int]:
    """(total, available) in bytes."""
    table = _meminfo(host.read("/proc/meminfo")) if host.system == "Linux" else {}
    total = table.get("MemTotal", 0)
    if not total:
        return host.physical()
    # MemAvailable is missing before Linux 3.14 and in some containers' rewritten /proc.
    rough = sum(table.get(name, 0) for name in ("MemFree", "Buffers", "Cached"))
    return total, table.get("MemAvailable", rough)


def _meminfo(text: str) -> dict[str, int]:
    table = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        value = size(rest.strip().split(" ")[0])
        if value is not None:
            table[name] = value * 1024
    return table


def limits_of(host: Host) -> Iterator[Limit]:
    """Every memory limit above this process, from its own group to the root of what it can see."""
    for folder in group_folders(host, ""):
        yield from _version2(host, folder)
    for folder in group_folders(host, "memory"):
        yield from _version1(host, folder)


def group_folders(host: Host, controller: str) -> Iterator[str]:
    """The folders of this process's control groups, its own first: of version 2 (""), or of a version 1 controller."""
    group = _groups(host).get(controller, "/")
    for mount, root in _mounts(host, controller):
        yield from _upwards(mount, root, group)


def _groups(host: Host) -> dict[str, str]:
    """The path of this process's group: by "" for version 2, by "memory" for version 1."""
    groups: dict[str, str] = {}
    for line in host.read("/proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for name in controllers.split(","):
            groups.setdefault(name, path or "/")
    return groups


def _mounts(host: Host, controller: str) -> Iterator[tuple[str, str]]:
    """(mount point, the group that is mounted there) of a hierarchy; where nothing is told, the usual place."""
    found = False
    for line in host.read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, filesystem = before.split(), after.split()
        if len(fields) < 5 or len(filesystem) < 3:  # noqa: PLR2004 - proc(5): root is the 4th field, mount point the 5th
            continue
        version2 = filesystem[0] == "cgroup2" and not controller
        if version2 or (filesystem[0] == "cgroup" and controller and controller in filesystem[2].split(",")):
            found = True
            yield fields[4], fields[3]
    if not found:
        yield f"/sys/fs/cgroup/{controller}".rstrip("/"), "/"


def _upwards(mount: str, root: str, group: str) -> Iterator[str]:
    """The folders from the group's own up to the mount point.

    Inside a container the path of the group may be the host's (no cgroup namespace: what is mounted begins further
    down) or lead above what is mounted (`/../..`); both then mean the mount point itself.
    """
    inside = PurePosixPath("/")
    if ".." not in group:
        path, top = PurePosixPath("/" + group.lstrip("/")), PurePosixPath("/" + root.lstrip("/"))
        inside = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath("/")
    folder = PurePosixPath(mount) / str(inside).lstrip("/")
    yield str(folder)
    while folder != PurePosixPath(mount) and folder.parent != folder:
        folder = folder.parent
        yield str(folder)


def _version2(host: Host, folder: str) -> Iterator[Limit]:
    # memory.high does not kill, but throttles to a crawl: for a model that streams its weights it is the limit.
    for name in ("memory.max", "memory.high"):
        limit = size(host.read(f"{folder}/{name}"))
        if limit and limit < UNLIMITED:
            yield Limit(limit, _used(host, folder, "memory.current", "inactive_file"), f"{folder}/{name}")


def _version1(host: Host, folder: str) -> Iterator[Limit]:
    file = f"{folder}/memory.limit_in_bytes"
    limit = size(host.read(file))
    if limit and limit < UNLIMITED:
        yield Limit(limit, _used(host, folder, "memory.usage_in_bytes", "total_inactive_file"), file)
    # Also tells limits of ancestors that this container cannot see.
    above = _stat(host, folder).get("hierarchical_memory_limit", UNLIMITED)
    if 0 < above < min(limit or UNLIMITED, UNLIMITED):
        used = _used(host, folder, "memory.usage_in_bytes", "total_inactive_file")
        yield Limit(above, used, f"{folder}/memory.stat")


def _used(host: Host, folder: str, file: str, cache: str) -> int:
    """What counts against the limit and cannot be dropped: usage without the file cache that is not in use."""
    return max((size(host.read(f"{folder}/{file}")) or 0) - _stat(host, folder).get(cache, 0), 0)


def _stat(host: Host, folder: str) -> dict[str, int]:
    table = {}
    for line in host.read(f"{folder}/memory.stat").splitlines():
        name, _, value = line.partition(" ")
        table[name] = size(value) or 0
    return table
