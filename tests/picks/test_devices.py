"""Names as NVML, lspci, sysfs, system_profiler, WMI and /proc report them, and the device each must mean."""

import msgspec
import pytest
from click.testing import CliRunner

from advisor import recommend
from advisor.cli import cli
from advisor.knowledge import names
from advisor.knowledge.catalog import Catalog, load

GIB = 1 << 30

REPORTED = [
    # name, vendor, memory in GiB, device
    ("NVIDIA GeForce RTX 4070 Laptop GPU", "nvidia", 8, "rtx-4070-laptop"),
    ("NVIDIA GeForce RTX 4070", "nvidia", 12, "rtx-4070"),
    ("NVIDIA GeForce RTX 4070 Ti SUPER", "nvidia", 16, "rtx-4070-ti-super"),
    ("NVIDIA GeForce RTX 3080", "nvidia", 10, "rtx-3080"),
    ("NVIDIA GeForce RTX 3080", "nvidia", 12, "rtx-3080-12gb"),
    ("NVIDIA GeForce RTX 3060", "nvidia", 12, "rtx-3060"),
    ("NVIDIA GeForce RTX 3060", "nvidia", 8, "rtx-3060-8gb"),
    ("NVIDIA GeForce RTX 3050", "nvidia", 6, "rtx-3050-6gb"),
    ("NVIDIA GeForce GTX 1060 6GB", "nvidia", 6, "gtx-1060"),
    ("NVIDIA GeForce GTX 1060 3GB", "nvidia", 3, "gtx-1060-3gb"),
    ("NVIDIA A100-SXM4-80GB", "nvidia", 80, "a100-80gb"),
    ("NVIDIA A100-SXM4-40GB", "nvidia", 40, "a100-40gb"),
    ("NVIDIA A100-PCIE-40GB", "nvidia", 40, "a100-40gb"),
    ("NVIDIA A100 80GB PCIe", "nvidia", 80, "a100-80gb-pcie"),
    ("NVIDIA H100 80GB HBM3", "nvidia", 80, "h100-sxm"),
    ("NVIDIA H100 PCIe", "nvidia", 80, "h100-pcie"),
    ("NVIDIA H100 NVL", "nvidia", 94, "h100-nvl"),
    ("NVIDIA H200", "nvidia", 140, "h200"),
    ("NVIDIA H200 NVL", "nvidia", 140, "h200-nvl"),
    ("NVIDIA B200", "nvidia", 179, "b200"),
    ("NVIDIA GB200", "nvidia", 186, "gb200"),
    ("NVIDIA GH200 480GB", "nvidia", 95, "gh200"),
    ("NVIDIA GB10", "nvidia", 119, "gb10"),
    ("Tesla T4", "nvidia", 15, "t4"),
    ("Tesla V100-SXM2-32GB", "nvidia", 32, "v100"),
    ("Tesla P40", "nvidia", 24, "p40"),
    ("NVIDIA A10", "nvidia", 23, "a10"),
    ("NVIDIA A10G", "nvidia", 23, "a10g"),
    ("NVIDIA L4", "nvidia", 23, "l4"),
    ("NVIDIA L40S", "nvidia", 45, "l40s"),
    ("NVIDIA RTX 6000 Ada Generation", "nvidia", 48, "rtx-6000-ada"),
    ("NVIDIA RTX 4000 SFF Ada Generation", "nvidia", 20, "rtx-4000-sff-ada"),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "nvidia", 96, "rtx-pro-6000-blackwell"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "nvidia", 96, "rtx-pro-6000-blackwell"),
    ("NVIDIA RTX A2000 12GB", "nvidia", 12, "rtx-a2000"),
    ("Quadro RTX 8000", "nvidia", 48, "quadro-rtx-8000"),
    ("Quadro RTX 6000", "nvidia", 24, "quadro-rtx-6000"),
    ("Orin (nvgpu)", "nvidia", 61, "jetson-agx-orin"),
    ("Orin", "nvidia", 30, "jetson-agx-orin"),
    ("Orin", "nvidia", 15, "jetson-orin-nx"),
    ("NVIDIA Thor", "nvidia", 122, "jetson-thor-t5000"),
    ("AMD Radeon RX 7900 XTX", "amd", 24, "rx-7900-xtx"),
    ("Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]", "amd", 24, "rx-7900-xtx"),
    ("Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]", "amd", 20, "rx-7900-xt"),
    ("Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M", "amd", 16, "rx-7900m"),
    ("Navi 48 [Radeon RX 9070/9070 XT/9070 GRE]", "amd", 16, "rx-9070"),
    ("Navi 48 [Radeon RX 9070/9070 XT/9070 GRE]", "amd", 12, "rx-9070-gre"),
    ("Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]", "amd", 16, "rx-6800"),
    ("Vega 20 [Radeon Pro VII/Radeon Instinct MI50 32GB]", "amd", 32, "mi50"),
    ("AMD Radeon RX 6600M", "amd", 8, "rx-6600m"),
    ("AMD Instinct MI300X", "amd", 192, "mi300x"),
    ("AMD Instinct MI300X OAM", "amd", 192, "mi300x"),
    ("AMD Instinct MI355X", "amd", 268, "mi355x"),
    ("AMD Radeon 780M Graphics", "amd", 32, "radeon-780m"),
    ("AMD Radeon 8060S", "amd", 128, "strix-halo"),
    ("AMD Radeon(TM) 8060S Graphics", "amd", 96, "strix-halo"),
    ("AMD Radeon 8060S Graphics (RADV GFX1151)", "amd", 128, "strix-halo"),
    ("AMD Radeon AI PRO R9700", "amd", 32, "r9700"),
    ("Intel(R) Arc(TM) A770 Graphics", "intel", 16, "arc-a770"),
    ("DG2 [Arc A770]", "intel", 16, "arc-a770"),
    ("Battlemage G21 [Arc B580]", "intel", 12, "arc-b580"),
    ("Intel(R) Arc(TM) Pro B50 Graphics", "intel", 16, "arc-pro-b50"),
    ("Intel(R) Arc(TM) Pro B60 Graphics", "intel", 24, "arc-pro-b60"),
    ("Intel(R) Arc(TM) Pro B70 Graphics", "intel", 32, "arc-pro-b70"),
    ("Intel(R) Arc(TM) 140V GPU (16GB)", "intel", 32, "arc-140v"),
    ("Qualcomm(R) Adreno(TM) X1-85 GPU", "other", 16, "snapdragon-x-elite"),
    ("BCM2712", "other", 8, "raspberry-pi-5"),
]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


@pytest.mark.parametrize(("name", "vendor", "gib", "wanted"), REPORTED)
def test_a_reported_name_means_its_device(catalog: Catalog, name: str, vendor: str, gib: int, wanted: str) -> None:
    found = names.match(name, catalog.devices.values(), vendor=vendor, memory_bytes=gib * GIB)
    assert found is not None
    assert found.id == wanted


@pytest.mark.parametrize(
    ("name", "vendor", "gib"),
    [
        ("NVIDIA GeForce RTX 4090 Ti", "nvidia", 48),
        ("NVIDIA GeForce RTX 2070 with Max-Q Design", "nvidia", 8),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "nvidia", 5),
        ("NVIDIA Graphics Device", "nvidia", 24),
        ("RTX 6000", "nvidia", 48),
        ("AMD Radeon Graphics", "amd", 4),
        ("AMD Radeon RX 7900", "amd", 24),
        ("Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]", "amd", 0),
        ("Navi 22 [Radeon RX 6700/6700 XT/6750 XT / 6800M/6850M XT]", "amd", 12),
        ("Intel(R) UHD Graphics 770", "intel", 16),
        ("Apple M9", "apple", 64),
        ("llvmpipe (LLVM 19.1.0, 256 bits)", "other", 0),
    ],
)
def test_what_is_not_known_or_not_told_matches_nothing(catalog: Catalog, name: str, vendor: str, gib: int) -> None:
    assert names.match(name, catalog.devices.values(), vendor=vendor, memory_bytes=gib * GIB) is None


@pytest.mark.parametrize(
    ("name", "gib", "cores", "gpu_cores", "wanted"),
    [
        ("Apple M4 Max", 36, 14, 32, "m4-max-410"),
        ("Apple M4 Max", 64, 16, 40, "m4-max"),
        ("Apple M4 Max", 36, 14, 0, "m4-max-410"),
        ("Apple M3 Max", 96, 14, 30, "m3-max-300"),
        ("Apple M5 Max", 36, 18, 32, "m5-max-460"),
        ("Apple M5 Max", 64, 18, 40, "m5-max"),
        ("Apple M1", 16, 8, 7, "m1-7"),
        ("Apple M1", 16, 8, 8, "m1"),
        ("Apple M2 Pro", 16, 10, 16, "m2-pro-16"),
        ("Apple M3 Ultra", 256, 28, 60, "m3-ultra-60"),
        ("Apple M4 Pro", 24, 12, 16, "m4-pro-16"),
        ("Apple M4", 16, 10, 10, "m4"),
    ],
)
def test_apples_bins(  # noqa: PLR0917 - a column each
    catalog: Catalog, name: str, gib: int, cores: int, gpu_cores: int, wanted: str
) -> None:
    found = names.match(
        name, catalog.devices.values(), vendor="apple", memory_bytes=gib * GIB, cores=cores, gpu_cores=gpu_cores
    )
    assert found is not None
    assert found.id == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Snapdragon(R) X Elite - X1E78100 - Qualcomm(R) Oryon(TM) CPU", "snapdragon-x-elite"),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "strix-halo"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", "radeon-780m"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
        ("13th Gen Intel(R) Core(TM) i9-13900K", "core-i9-13900k"),
        ("AMD EPYC 9654 96-Core Processor", "epyc-9654"),
    ],
)
def test_processors(catalog: Catalog, name: str, wanted: str) -> None:
    found = names.inside(name, catalog.devices.values())
    assert found is not None
    assert found.id == wanted


FAMILIES = """
gtx-10 gtx-16 rtx-20 rtx-30 rtx-40 rtx-50 rtx-a rtx-pro h100 h200 b200 gh200 gb10 jetson-
rx-6 rx-7 rx-9 r9700 mi50 mi355x radeon-680m radeon-780m radeon-890m strix-halo
arc-a arc-b arc-pro-b50 arc-pro-b60 arc-pro-b70 m1 m2 m3 m4 m5 snapdragon-x raspberry-pi-5 phone
"""


@pytest.mark.parametrize("prefix", FAMILIES.split())
def test_every_family_is_there(catalog: Catalog, prefix: str) -> None:
    assert any(key.startswith(prefix) for key in catalog.devices)


def test_there_are_many_and_each_says_where_its_figures_are_from(catalog: Catalog) -> None:
    assert len(catalog.devices) >= 300
    assert all(device.source and device.bandwidth for device in catalog.devices.values())


class TestCardsThatNobodyKnows:
    def test_one_is_described_by_its_memory_and_its_speed_is_a_guess(self) -> None:
        answer = recommend("GPU 24GB, 64GB")
        pick = answer.recommendations[0]
        assert answer.machine.gpus[0].bandwidth_bytes_per_s is None
        assert pick.placement.mode == "gpu"
        assert pick.basis["decode_tokens_per_s"] == "assumed"
        assert any("--gpu-bandwidth" in line for line in pick.warnings)

    def test_its_bandwidth_can_be_told(self) -> None:
        words = ["recommend", "--simulate", "2x GPU 24GB, 64GB", "--gpu-bandwidth", "936 GB/s", "--json"]
        found = msgspec.json.decode(CliRunner().invoke(cli, words).stdout)
        assert [gpu["bandwidth_bytes_per_s"] for gpu in found["machine"]["gpus"]] == [936 * 10**9] * 2
        assert found["recommendations"][0]["basis"]["decode_tokens_per_s"] == "formula"
        assert not any("--gpu-bandwidth" in line for line in found["recommendations"][0]["warnings"])

    def test_a_catalogued_card_keeps_its_own(self) -> None:
        words = ["recommend", "--simulate", "RTX 4090, 64GB", "--gpu-bandwidth", "1 GB/s", "--json"]
        found = msgspec.json.decode(CliRunner().invoke(cli, words).stdout)
        assert found["machine"]["gpus"][0]["bandwidth_bytes_per_s"] == 1008 * 10**9
