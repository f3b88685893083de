"""The processor: name, cores, and the instruction sets that decide what a runtime can do and how fast.

Cores and threads are those this process may use: affinity, cpusets and CPU quotas of containers are taken off, because
a runtime that starts one thread per core of the host is slower than one that knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from advisor.hardware.probes.host import Host, ToolError, size
from advisor.hardware.probes.memory import group_folders
from advisor.machine import Cpu, Problem

X86 = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx512vbmi",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
)
"""As /proc/cpuinfo spells them."""

ARM = {
    "asimd": "neon",
    "neon": "neon",
    "asimddp": "dotprod",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
"""/proc/cpuinfo's words to the names compilers use."""

MAC_ARM = {
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_FP16": "fp16",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
}
MAC_X86 = {"AVX1.0": "avx", "AVX2": "avx2", "FMA": "fma", "F16C": "f16c", "SSE4.2": "sse4_2", "AVX512F": "avx512f"}
MAC_KEYS = (
    "machdep.cpu.brand_string",
    "machdep.cpu.features",
    "machdep.cpu.leaf7_features",
    "hw.physicalcpu",
    "hw.logicalcpu",
    *MAC_ARM,
)

WINDOWS = {38: "sse4_2", 39: "avx", 40: "avx2", 41: "avx512f", 19: "neon", 43: "dotprod"}
"""Arguments of IsProcessorFeaturePresent (winnt.h: PF_AVX2_INSTRUCTIONS_AVAILABLE is 40, ...)."""

UTF8 = "[Console]::OutputEncoding = [Text.Encoding]::UTF8; "
"""Before every script: PowerShell writes names in the console's code page otherwise."""
WINDOWS_TOOL = (
    "powershell",
    "-NoProfile",
    "-NonInteractive",
    "-Command",
    UTF8
    + "Get-CimInstance Win32_Processor | ForEach-Object { $_.Name; $_.NumberOfCores; $_.NumberOfLogicalProcessors }",
)

MOST_SOCKET_SHARE = 4
"""Hardware threads per socket from which two sockets are believed."""

VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "hygon"}
IMPLEMENTERS = {"0x41": "arm", "0x51": "qualcomm", "0x4e": "nvidia", "0x61": "apple", "0xc0": "ampere"}
PARTS = {
    "0xd03": "Cortex-A53",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse N1",
    "0xd42": "Cortex-A78AE",
    "0xd40": "Neoverse V1",
    "0xd49": "Neoverse N2",
    "0xd4f": "Neoverse V2",
    "0xd85": "Cortex-X925",
    "0xd87": "Cortex-A725",
}
"""ARM's part numbers (Linux: arch/arm64/include/asm/cputype.h); the last processor listed is the fastest kind."""


def probe(host: Host) -> tuple[Cpu, tuple[Problem, ...]]:
    """The processor; never raises. Unknown figures become 1 core and a problem."""
    if host.system == "Darwin":
        return _mac(host)
    if host.system == "Windows":
        return _windows(host)
    return _linux(host)


def _linux(host: Host) -> tuple[Cpu, tuple[Problem, ...]]:
    blocks = list(_blocks(host.read("/proc/cpuinfo")))
    if not blocks:
        unknown = Cpu(name=host.arch or "unknown", cores=1, threads=1)
        return unknown, (Problem(probe="cpu", message="/proc/cpuinfo is not readable: one core is assumed"),)
    first, last = blocks[0], blocks[-1]
    threads = len(blocks)
    cores = min(_cores(host, blocks), threads)
    allowed, reason = _allowed(host, threads)
    name = first.get("model name") or _board(host) or PARTS.get(last.get("CPU part", ""), "") or host.arch
    cpu = Cpu(
        name=" ".join(name.split()) or "unknown",
        vendor=VENDORS.get(first.get("vendor_id", "")) or IMPLEMENTERS.get(first.get("CPU implementer", ""), "unknown"),
        cores=min(cores, allowed),
        threads=min(threads, allowed),
        features=_features(first),
    )
    notes = list(_sockets(blocks))
    if allowed < threads:
        message = f"{allowed} of {threads} hardware threads may be used"
        notes.append(Problem(probe="cpu", message=message, hint=reason))
    return cpu, tuple(notes)


def _sockets(blocks: list[dict[str, str]]) -> Iterator[Problem]:
    """Two processors have twice the memory channels, but a runtime that does not know of them reads through one."""
    sockets = len({block.get("physical id", "0") for block in blocks})
    # Virtual machines show each of their processors as a socket of one core.
    if sockets > 1 and sockets * MOST_SOCKET_SHARE <= len(blocks):
        message = f"{sockets} processors, each with its own memory: the bandwidth of one is counted"
        hint = "start llama.cpp with --numa distribute, or bind it to one processor with numactl"
        yield Problem(probe="cpu", message=message, hint=hint)


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """One table per processor; lines that stand apart (a Raspberry Pi's model) are none."""
    for block in re.split(r"\n\s*\n", text):
        table = {}
        for line in block.splitlines():
            name, colon, value = line.partition(":")
            if colon:
                table[name.strip()] = value.strip()
        if "processor" in table:
            yield table


def _features(block: dict[str, str]) -> tuple[str, ...]:
    flags = set(block.get("flags", "").split())
    words = block.get("Features", "").split()
    return tuple(name for name in X86 if name in flags) + tuple(
        dict.fromkeys(ARM[word] for word in words if word in ARM)
    )


def _cores(host: Host, blocks: list[dict[str, str]]) -> int:
    """Physical cores: by (socket, core) where /proc/cpuinfo has them, by sibling lists where not (ARM)."""
    pairs = {(block.get("physical id"), block["core id"]) for block in blocks if "core id" in block}
    if pairs:
        return len(pairs)
    siblings = {
        host.read(f"/sys/devices/system/cpu/cpu{block['processor']}/topology/thread_siblings_list")
        for block in blocks
        if block["processor"].isdecimal()
    } - {""}
    return len(siblings) or len(blocks)


def _board(host: Host) -> str:
    return host.read("/proc/device-tree/model")


def _allowed(host: Host, threads: int) -> tuple[int, str]:
    """How many hardware threads may be used, and what says so."""
    listed = re.search(r"^Cpus_allowed_list:\s*(\S+)", host.read("/proc/self/status"), re.MULTILINE)
    affinity = _count(listed.group(1)) if listed else 0
    folders = (*group_folders(host, ""), *group_folders(host, "cpu"))
    quota = min((_quota(host, folder) for folder in folders), default=math.inf)
    if quota < min(affinity or threads, threads):
        return max(math.ceil(quota), 1), "a container's CPU quota; give it more processors"
    return (affinity or threads), "the CPU affinity or cpuset of this process"


def _count(text: str) -> int:
    """How many processors a list such as `0-3,8` names."""
    total = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = size(first), size(last or first)
        if low is not None and high is not None and low <= high:
            total += high - low + 1
    return total


def _quota(host: Host, folder: str) -> float:
    """Processors' worth of time that a control group allows: cpu.max of version 2, cpu.cfs_* of version 1."""
    quota, _, period = host.read(f"{folder}/cpu.max").partition(" ")
    if not quota:
        quota, period = host.read(f"{folder}/cpu.cfs_quota_us"), host.read(f"{folder}/cpu.cfs_period_us")
    time, of = size(quota), size(period or "100000")
    return time / of if time and of else math.inf


def _mac(host: Host) -> tuple[Cpu, tuple[Problem, ...]]:
    try:
        table = sysctl(host, MAC_KEYS)
    except ToolError as failed:
        return Cpu(name=host.arch or "unknown", cores=1, threads=1), (Problem(probe="cpu", message=str(failed)),)
    name = table.get("machdep.cpu.brand_string") or host.arch or "unknown"
    words = (table.get("machdep.cpu.features", "") + " " + table.get("machdep.cpu.leaf7_features", "")).split()
    arm = dict.fromkeys(MAC_ARM[key] for key in MAC_ARM if table.get(key) == "1")
    x86 = dict.fromkeys(MAC_X86[word] for word in words if word in MAC_X86)
    cores = size(table.get("hw.physicalcpu", "")) or 1
    cpu = Cpu(
        name=name,
        vendor="apple" if name.startswith("Apple") else "intel" if "Intel" in name else "unknown",
        cores=cores,
        threads=max(size(table.get("hw.logicalcpu", "")) or cores, cores),
        features=(*x86, *arm),
    )
    return cpu, ()


def sysctl(host: Host, keys: tuple[str, ...]) -> dict[str, str]:
    """macOS's sysctl by key; keys that the machine does not have are left out.

    Raises:
        ToolError: sysctl cannot be run.
    """
    lines = host.run(("sysctl", *keys)).splitlines()
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def _windows(host: Host) -> tuple[Cpu, tuple[Problem, ...]]:
    features = tuple(name for number, name in WINDOWS.items() if host.processor_feature(number))
    if "avx2" in features:
        # Windows cannot tell these two; every processor with AVX2 has them.
        features = (*features, "fma", "f16c")
    try:
        lines = host.run(WINDOWS_TOOL, 8.0).splitlines()
    except ToolError as failed:
        name = host.environ.get("PROCESSOR_IDENTIFIER", host.arch) or "unknown"
        return Cpu(name=name, cores=1, threads=1, features=features), (Problem(probe="cpu", message=str(failed)),)
    name = lines[0].strip() if lines else "unknown"
    counts = [size(line) or 0 for line in lines]
    # Three lines per socket.
    cores, threads = max(sum(counts[1::3]), 1), sum(counts[2::3])
    vendor = next(
        (short for word, short in (("Intel", "intel"), ("AMD", "amd"), ("Snapdragon", "qualcomm")) if word in name),
        "unknown",
    )
    return Cpu(
        name=" ".join(name.split()), vendor=vendor, cores=cores, threads=max(threads, cores), features=features
    ), ()
