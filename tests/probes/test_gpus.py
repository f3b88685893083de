"""Classes of bug: integrated graphics counted as a big card; unified memory read as none; 4 GB limits of old
interfaces; one broken card or tool hiding all others."""

import json

import pytest

from advisor.hardware.probes import amd, apple, nvidia, windows
from advisor.hardware.probes.host import Findings
from tests.probes.machines import (
    DEVICES,
    GIB,
    FakeNvml,
    NVMLError_LibRmVersionMismatch,
    findings,
    machine,
    said,
    with_files,
)

CARD = "/sys/class/drm/card0/device"
ROCM = " ".join(amd.ROCM_SMI)
PROFILER = " ".join(apple.PROFILER)
POWERSHELL = " ".join(windows.TOOL)
SMI = " ".join(nvidia.SMI)
DRIVER = {"/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14"}


def linux(**files: str) -> Findings:
    return with_files("docker-v1", files=files)


class TestNvidia:
    def test_nvml(self) -> None:
        nvml = FakeNvml(("NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB), ("NVIDIA H100 80GB HBM3", 80 * GIB, 79 * GIB))
        found = machine(linux(**DRIVER), nvml, DEVICES)
        assert [(gpu.index, gpu.device, gpu.bandwidth_bytes_per_s) for gpu in found.gpus] == [
            (0, "rtx-4090", 1008 * 10**9),
            (1, "h100", 3350 * 10**9),
        ]
        assert found.gpus[0].memory_free_bytes == 23 * GIB
        assert found.gpus[0].driver == "580.126.09"
        assert found.basis["gpus.1.bandwidth_bytes_per_s"] == "catalogue"
        assert found.basis["gpus.0.memory_total_bytes"] == "measured"
        assert not found.memory.unified
        assert nvml.open == 0

    def test_unified_memory_that_nvml_does_not_support(self) -> None:
        found = machine("gb10", FakeNvml(("NVIDIA GB10", None, None)), DEVICES)
        (gpu,) = found.gpus
        assert (gpu.memory_total_bytes, gpu.integrated, gpu.device) == (127600748 * 1024, True, "gb10")
        assert gpu.memory_free_bytes == 118566368 * 1024
        assert found.memory.unified
        assert found.memory.bandwidth_bytes_per_s == 273 * 10**9
        assert found.basis["memory.bandwidth_bytes_per_s"] == "catalogue"

    def test_unified_memory_through_the_tool(self) -> None:
        (gpu,) = machine("gb10").gpus
        assert (gpu.name, gpu.memory_total_bytes, gpu.integrated) == ("NVIDIA GB10", 127600748 * 1024, True)

    def test_wsl_has_a_library_and_no_proc(self) -> None:
        (gpu,) = machine("wsl", devices=DEVICES).gpus
        assert (gpu.device, gpu.memory_total_bytes, gpu.driver) == ("rtx-3060-12gb", 12 * GIB, "566.36")

    def test_a_report_from_a_rented_machine(self) -> None:
        """NVML's GPUs come back through the text that `doctor` adds; a limit above the real memory is none."""
        found = machine("h100", devices=DEVICES)
        (gpu,) = found.gpus
        assert (gpu.device, gpu.memory_total_bytes, gpu.memory_free_bytes) == ("h100", 81559 << 20, 81079 << 20)
        assert (found.memory.limit_bytes, found.environment) == (None, "container")

    def test_a_lost_card_does_not_hide_the_others(self) -> None:
        found = machine(linux(**DRIVER), FakeNvml(("A", 8 * GIB, None), ("B", 8 * GIB, 7 * GIB)))
        assert [gpu.name for gpu in found.gpus] == ["B"]
        assert "GPU is lost" in said(found.problems)

    def test_a_card_of_a_pc_has_memory_of_its_own(self) -> None:
        found = machine(linux(**DRIVER), FakeNvml(("A", None, None), ("B", 8 * GIB, 7 * GIB)))
        assert [gpu.name for gpu in found.gpus] == ["B"]
        assert "A (GPU 0): does not tell its memory" in said(found.problems)
        assert not found.memory.unified

    @pytest.mark.parametrize("word", ["[N/A]", "[Not Supported]", "[Unknown Error]", "[GPU requires reset]", "", "0"])
    def test_no_word_of_the_tool_is_a_size(self, word: str) -> None:
        line = f"0, NVIDIA GeForce RTX 3090, {word}, {word}, 550.120"
        found = machine(with_files("card-off-the-bus", tools={SMI: line}), devices=DEVICES)
        assert not found.gpus
        assert "RTX 3090 (GPU 0): its memory reads" in said(found.problems)

    def test_what_the_tool_says_instead_is_passed_on(self) -> None:
        text = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
        found = machine(with_files("driver-mismatch", tools={SMI: text}))
        assert "modprobe nvidia" in said(found.problems)
        assert "restart the machine" in said(machine("driver-mismatch").problems)

    def test_instances_are_chosen_with_what_is_assumed_of_them(self) -> None:
        found = machine(with_files("mig-a100", environ={"CUDA_VISIBLE_DEVICES": "1"}), devices=DEVICES)
        assert [gpu.name for gpu in found.gpus] == ["NVIDIA A100-SXM4-80GB MIG 1g.10gb"]
        assert found.basis["gpus.0.memory_total_bytes"] == "assumed"
        # The test's catalogue has no A100: a slice of nothing known is not known.
        assert found.gpus[0].bandwidth_bytes_per_s is None

    def test_driver_updated_while_loaded(self) -> None:
        found = machine(linux(**DRIVER), FakeNvml(fails=NVMLError_LibRmVersionMismatch()))
        assert not found.gpus
        assert "restart the machine" in said(found.problems)

    def test_divided_card(self) -> None:
        parts = [("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10 * GIB, 9 * GIB)] * 2
        found = machine(linux(**DRIVER), FakeNvml(("NVIDIA H100 80GB HBM3", 80 * GIB, 1), mig={0: parts}), DEVICES)
        # A process uses one of them; it has an eighth of the memory, and so of the bandwidth, which nobody tells.
        assert [(gpu.index, gpu.memory_total_bytes) for gpu in found.gpus] == [(0, 10 * GIB)]
        assert found.gpus[0].bandwidth_bytes_per_s == 3350 * 10**9 // 8
        assert found.basis["gpus.0.bandwidth_bytes_per_s"] == "assumed"
        assert "of 2 MIG instances a process uses one" in said(found.problems)

    @pytest.mark.parametrize(
        ("value", "names"),
        [("1", ["B"]), ("1,0", ["B", "A"]), ("-1", []), ("", []), ("0,7,1", ["A"]), ("GPU-8932f937", ["A", "B"])],
    )
    def test_visible_devices(self, value: str, names: list[str]) -> None:
        found = with_files("docker-v1", files=DRIVER, environ={"CUDA_VISIBLE_DEVICES": value})
        seen = machine(found, FakeNvml(("A", GIB, GIB), ("B", GIB, GIB)))
        assert [gpu.name for gpu in seen.gpus] == names

    def test_no_driver_means_no_import_and_a_hint(self) -> None:
        slot = "/sys/bus/pci/devices/0000:01:00.0"
        found = machine(linux(**{f"{slot}/vendor": "0x10de", f"{slot}/class": "0x030000"}), FakeNvml(("A", 1, 1)))
        assert not found.gpus
        assert "no driver" in said(found.problems)


class TestAmd:
    def test_card_and_the_processors_own_graphics(self) -> None:
        found = machine("rx7900xtx", devices=DEVICES)
        card, own = found.gpus
        assert (card.name, card.device, card.integrated) == ("AMD Radeon RX 7900 XTX", "rx-7900-xtx", False)
        assert (card.memory_total_bytes, card.memory_free_bytes) == (25753026560, 25753026560 - 1387347968)
        assert (own.integrated, own.memory_total_bytes) == (True, 512 << 20)
        assert own.device is None
        assert not found.memory.unified

    def test_strix_halo_uses_what_the_driver_may_map(self) -> None:
        found = machine("strix-halo", devices=DEVICES)
        (gpu,) = found.gpus
        assert (gpu.memory_total_bytes, gpu.integrated, gpu.device) == (96 * GIB, True, "strix-halo")
        assert gpu.memory_free_bytes == 96 * GIB - 25165824
        assert found.memory.unified
        assert found.memory.bandwidth_bytes_per_s == 256 * 10**9
        assert found.basis["memory.bandwidth_bytes_per_s"] == "catalogue"

    def test_strix_halo_free_memory_is_never_more_than_the_systems(self) -> None:
        busy = {"/proc/meminfo": "MemTotal: 131036528 kB\nMemAvailable: 1048576 kB"}
        assert machine(with_files("strix-halo", files=busy)).gpus[0].memory_free_bytes == GIB

    def test_strix_halo_with_a_large_carve_out_is_a_card(self) -> None:
        card = "/sys/class/drm/card1/device"
        files = {f"{card}/mem_info_vram_total": str(96 * GIB), f"{card}/mem_info_gtt_total": str(15 * GIB)}
        found = machine(with_files("strix-halo", files=files))
        assert (found.gpus[0].memory_total_bytes, found.gpus[0].integrated) == (96 * GIB, False)
        assert not found.memory.unified

    def test_apus_that_a_runtime_gains_from_count_what_may_be_mapped(self) -> None:
        card = "/sys/class/drm/card1/device"
        files = {f"{card}/device": "0x15bf", f"{card}/mem_info_gtt_total": str(16 * GIB), "/proc/cpuinfo": ""}
        (gpu,) = machine(with_files("strix-halo", files=files)).gpus
        assert (gpu.name, gpu.memory_total_bytes) == ("AMD Radeon 780M Graphics", 16 * GIB)

    def test_marketing_names_of_libdrm_come_first(self) -> None:
        ids = "# List of AMDGPU IDs\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX Special\n"
        found = machine(with_files("rx7900xtx", files={amd.LIBDRM: ids}))
        assert found.gpus[0].name == "AMD Radeon RX 7900 XTX Special"

    @pytest.mark.parametrize(("maker", "integrated"), [("", True), ("unknown", True), ("hynix", False)])
    def test_a_chip_newer_than_the_table(self, maker: str, integrated: bool) -> None:
        files = {f"{CARD}/device": "0x7fff", f"{CARD}/mem_info_vram_vendor": maker}
        assert machine(with_files("rx7900xtx", files=files)).gpus[0].integrated is integrated

    def test_rocm_smi_where_sysfs_is_silent(self) -> None:
        document = {
            "card0": {
                "VRAM Total Memory (B)": "21458059264",
                "VRAM Total Used Memory (B)": "27856896",
                "Card Series": "Radeon RX 7900 XT",
                "Card Model": "0x744c",
                "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
                "Card SKU": "D70401XT",
                "GUID": "26967",
                "GFX Version": "gfx1100",
            },
            "system": {"Driver version": "6.10.5"},
        }
        noisy = "WARNING: AMD GPU device(s) is/are in a low-power state.\n\n" + json.dumps(document)
        found = with_files("docker-v1", folders={"/dev": ("kfd", "null")}, tools={ROCM: noisy})
        (gpu,) = machine(found, devices=DEVICES).gpus
        assert (gpu.memory_total_bytes, gpu.memory_free_bytes, gpu.device) == (21458059264, 21430202368, "rx-7900-xt")

    @pytest.mark.parametrize(
        "answer", ["", "[]", "{", "{}", '{"card0": 3}', '{"card0": {"VRAM Total Memory (B)": "N/A"}}']
    )
    def test_broken_rocm_smi(self, answer: str) -> None:
        found = machine(with_files("docker-v1", folders={"/dev": ("kfd",)}, tools={ROCM: answer}))
        assert not found.gpus
        assert "rocm-smi" in said(found.problems)


class TestIntel:
    def test_arc_is_a_card_and_the_processors_graphics_are_not(self) -> None:
        found = machine("arc-b580", devices=DEVICES)
        (gpu,) = found.gpus
        assert (gpu.name, gpu.device, gpu.memory_total_bytes) == ("Intel Arc B580", "arc-b580", 12 * GIB)
        assert (gpu.driver, gpu.integrated) == ("xe", False)
        assert "Intel UHD Graphics 770 has no memory of its own" in said(found.problems)

    def test_memory_that_i915_does_not_tell_is_assumed(self) -> None:
        files = {f"{CARD}/tile0/physical_vram_size_bytes": "", f"{CARD}/device": "0x56a0"}
        found = machine(with_files("arc-b580", files=files))
        assert found.gpus[0].memory_total_bytes == 16 * GIB
        assert found.basis["gpus.0.memory_total_bytes"] == "assumed"
        assert "clinfo" in said(found.problems)

    @pytest.mark.parametrize(("window", "gib"), [(0x43FFFFFFFF, 16), (0x41FFFFFFFF, 8), (0x400FFFFFFF, 16)])
    def test_the_a770_with_8_gb_has_a_smaller_window(self, window: int, gib: int) -> None:
        files = {f"{CARD}/resource": f"0x0000004000000000 {window:#018x} 0x000000000014220c"}
        assert machine(with_files("arc-a770", files=files)).gpus[0].memory_total_bytes == gib * GIB

    def test_integrated_arc_works_in_main_memory(self) -> None:
        files = {"/sys/class/drm/card1/device/device": "0x64a0", f"{CARD}/vendor": "0x1234"}
        found = machine(with_files("arc-b580", files=files))
        (gpu,) = found.gpus
        assert (gpu.name, gpu.integrated) == ("Intel Arc 140V", True)
        assert gpu.memory_total_bytes == found.memory.total_bytes * 3 // 4
        assert found.basis["gpus.0.memory_total_bytes"] == "assumed"
        assert found.memory.unified

    def test_unknown_and_silent_is_a_problem(self) -> None:
        files = {f"{CARD}/tile0/physical_vram_size_bytes": "", f"{CARD}/device": "0xffff"}
        found = machine(with_files("arc-b580", files=files))
        assert not found.gpus
        assert "does not tell its memory" in said(found.problems)


class TestApple:
    def test_the_limit_is_not_all_of_the_memory(self) -> None:
        found = machine("m3-max", devices=DEVICES)
        (gpu,) = found.gpus
        assert (gpu.memory_total_bytes, gpu.integrated, gpu.device) == (48 * GIB, True, "m3-max")
        assert gpu.memory_free_bytes == 41875931136
        assert found.basis["gpus.0.memory_total_bytes"] == "assumed"
        assert found.memory.unified
        assert (found.os, found.memory.bandwidth_bytes_per_s) == ("macos", 400 * 10**9)

    def test_variants_of_a_chip_are_told_apart_by_their_cores(self) -> None:
        tools = {line: text.replace(": 16", ": 14") for line, text in findings("m3-max").tools.items()}
        assert machine(with_files("m3-max", tools=tools), devices=DEVICES).gpus[0].device == "m3-max-30"

    def test_a_raised_limit_is_read(self) -> None:
        found = machine("m1", devices=DEVICES)
        (gpu,) = found.gpus
        assert (gpu.name, gpu.memory_total_bytes, gpu.device) == ("Apple M1", 12 * GIB, "m1")
        assert found.basis["gpus.0.memory_total_bytes"] == "measured"

    @pytest.mark.parametrize("answer", ["", "[]", "{", '{"SPDisplaysDataType": 1}', "!system_profiler hangs"])
    def test_broken_tool(self, answer: str) -> None:
        found = machine(with_files("m3-max", tools={PROFILER: answer}))
        assert found.gpus[0].memory_total_bytes == 48 * GIB
        assert "system_profiler" in said(found.problems)

    def test_intel_mac_with_a_card(self) -> None:
        cards = [
            {"_name": "kHW_IntelUHDGraphics630Item", "spdisplays_vram": "1536 MB", "spdisplays_vendor": "Intel"},
            {
                "_name": "kHW_AMDRadeonPro5500MItem",
                "sppci_model": "AMD Radeon Pro 5500M",
                "spdisplays_vram": "8 GB",
                "spdisplays_vendor": "sppci_vendor_amd",
            },
        ]
        tools = {PROFILER: json.dumps({"SPDisplaysDataType": cards})}
        found = machine(Findings(system="Darwin", arch="x86_64", physical_bytes=(16 * GIB, GIB), tools=tools))
        assert [(gpu.name, gpu.memory_total_bytes) for gpu in found.gpus] == [("AMD Radeon Pro 5500M", 8 * GIB)]
        assert found.basis["gpus.0.memory_free_bytes"] == "assumed"
        assert "run on the processor" in said(found.problems)
        assert not found.memory.unified


class TestWindows:
    def test_the_registry_knows_more_than_4_gb(self) -> None:
        found = machine("windows", devices=DEVICES)
        own, card = found.gpus
        assert (own.integrated, own.memory_total_bytes) == (True, 512 << 20)
        assert (card.memory_total_bytes, card.device, card.integrated) == (25753026560, "rx-7900-xtx", False)
        assert found.basis["gpus.1.memory_free_bytes"] == "assumed"

    def test_without_the_registry_4_gb_are_told_as_such(self) -> None:
        document = {"video": json.loads(findings("windows").tools[POWERSHELL])["video"][1], "registry": None}
        found = machine(with_files("windows", tools={POWERSHELL: json.dumps(document)}))
        assert "4 GB or more" in said(found.problems)

    def test_intel_share_of_main_memory_is_no_card(self) -> None:
        video = {"Name": "Intel(R) UHD Graphics 770", "AdapterRAM": 1073741824, "PNPDeviceID": "PCI\\VEN_8086&DEV_4680"}
        found = machine(with_files("windows", tools={POWERSHELL: json.dumps({"video": video})}))
        assert not found.gpus

    @pytest.mark.parametrize("answer", ["", "null", "[1]", "{", "!powershell did not answer within 8 s"])
    def test_broken_tool(self, answer: str) -> None:
        found = machine(with_files("windows", tools={POWERSHELL: answer}))
        assert not found.gpus
