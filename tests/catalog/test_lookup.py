"""Names as people and drivers give them."""

from __future__ import annotations

import pytest

from advisor.errors import UsageError
from advisor.knowledge.catalog import load


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("RTX 4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("  Rtx  4090 ", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("GeForce RTX 4090 Laptop GPU", "rtx-4090-laptop"),
        ("NVIDIA GeForce RTX 4090 Mobile", "rtx-4090-laptop"),
        ("rtx 4070 ti super", "rtx-4070-ti-super"),
        ("RTX 3060 12GB", "rtx-3060"),
        ("RTX 3080 12GB", "rtx-3080-12gb"),
        ("RTX 3080", "rtx-3080"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("V100 32GB", "v100"),
        ("Tesla T4", "t4"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-blackwell"),
        ("NVIDIA GB10", "gb10"),
        ("DGX Spark", "gb10"),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", "rx-7900-xtx"),
        ("AMD Ryzen AI Max+ 395 w/ Radeon 8060S", "strix-halo"),
        ("Intel(R) Arc(TM) B580 Graphics", "arc-b580"),
        ("M3 Max", "m3-max"),
        ("Apple M3 Max", "m3-max"),
        ("M3 Max 64GB", "m3-max"),
        ("M3 Max 36GB", "m3-max-300"),
        ("Apple M4 Max 36 GB", "m4-max-410"),
        ("M4 Max 128GB", "m4-max"),
        ("Apple M3", "m3"),
        ("13th Gen Intel(R) Core(TM) i9-13900K", "core-i9-13900k"),
        ("AMD Ryzen 9 7950X 16-Core Processor", "ryzen-9-7950x"),
        ("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "core-i7-8700"),
        ("Raspberry Pi 5 Model B", "raspberry-pi-5"),
    ],
)
def test_devices_by_many_names(name: str, device: str) -> None:
    assert load().device(name).id == device


@pytest.mark.parametrize(
    "name", ["", "   ", "GPU", "NVIDIA", "RTX 4090 E", "RTX 3060 24GB", "RTX 40", "M9", "12GB", "\x00", "(" * 50]
)
def test_devices_that_are_not_there(name: str) -> None:
    assert load().find_device(name) is None
    with pytest.raises(UsageError, match="unknown device"):
        load().device(name)


def test_unknown_device_offers_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        load().device("GeForce RTX 4091")
    assert "GeForce RTX 4090" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("26b", "26b"),
        (" 26B ", "26b"),
        ("26b-a4b", "26b"),
        ("google/gemma-4-26B-A4B-it", "26b"),
        ("Gemma 4 E2B", "e2b"),
        ("gemma4:e4b", "e4b"),
        ("gemma-4-12b", "12b"),
    ],
)
def test_models_by_many_names(name: str, model: str) -> None:
    assert load().model(name).id == model


@pytest.mark.parametrize(("name", "near"), [("27b", "26b"), ("e2", "e2b"), ("31", "31b")])
def test_unknown_model_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        load().model(name)
    assert near in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["Long Context", "long_context", "LONG-CONTEXT"])
def test_use_cases_in_any_spelling(name: str) -> None:
    assert load().use_case(name).id == "long-context"


def test_unknown_use_case_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown use case") as caught:
        load().use_case("codng")
    assert "coding" in caught.value.hint
