"""Phones are advised: which app, and which file with the drafter inside."""

import pytest
from click.testing import CliRunner

from advisor.cli import cli
from advisor.hardware import phones
from advisor.knowledge import catalog


@pytest.mark.parametrize(("device", "store"), [("Pixel 9", "Google Play"), ("iPhone 17 Pro", "the App Store")])
def test_a_phone_is_told_what_to_install(device: str, store: str) -> None:
    said = CliRunner().invoke(cli, ["recommend", "--simulate", device, "--use-case", "mobile"])
    assert said.exit_code == 0, said.output
    text = " ".join(said.output.split())
    assert f"on the phone: Google AI Edge Gallery from {store}, with gemma-4-E" in text
    assert "its drafter is inside" in text
    assert "advisor launch" not in text, "nothing is launched on a phone"


def test_models_without_such_a_file_and_other_machines_get_no_advice() -> None:
    models = catalog.load().models
    assert "gemma-4-E2B-it.litertlm (2.59 GB) of litert-community/" in phones.advice(models["e2b"], "android")
    assert phones.advice(models["31b"], "android") == ""
    assert phones.advice(models["e2b"], "linux") == ""
