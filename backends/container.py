"""Servers as container images: what to type. Nothing is started here, nor pulled: an image that is already there is
looked for, and the command is written down.

A container listens on all of its own addresses and is reached on this machine's loopback address only. It shares the
Hub's cache, so that what it fetches is fetched once.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from advisor.errors import NoBackend, UsageError
from advisor.knowledge.profile import Runtime
from advisor.machine import Gpu
from backends.base import Container, Model, Options
from backends.installed import parts, reaches
from backends.metered import shown_cards

PROGRAMS = ("docker", "podman")
ASK_S = 3.0
"""For the list of images; a daemon that does not answer has none."""
ANY, PORT = "0.0.0.0", 8000  # noqa: S104 - of the container; it is published on the loopback address
"""Where the server listens inside."""
CACHE, MODELS = "/root/.cache/huggingface/hub", "/models"
"""Where the images look for the Hub's cache, and where folders of this machine's are put."""
HUB = re.compile(r"^docker\.io/(?:library/)?")


def program() -> str:
    """What runs containers here; empty where nothing does."""
    return next((name for name in PROGRAMS if shutil.which(name)), "")


def chosen(runtime: Runtime, gpus: tuple[Gpu, ...], model: str) -> Container:
    """The program and the image to use: the newest that is here and will do, else the publisher's latest.

    Args:
        model: whose floor counts.

    Raises:
        UsageError: there is no image for such GPUs.
        NoBackend: nothing here runs containers.
    """
    image = runtime.image.get(gpus[0].vendor) if gpus else None
    if image is None:
        known = " or ".join(sorted(runtime.image)).replace("nvidia", "NVIDIA").replace("amd", "AMD")
        what = f"{known} GPUs" if known else "no GPU"
        raise UsageError(f"{runtime.name}'s images are for {what}", hint="install it, or use another --backend")
    runs = program()
    if not runs:
        raise NoBackend("neither docker nor podman is here", hint="install one of them, or leave out --container")
    name = image.rpartition(":")[0]
    here = [each for each in images(runs) if HUB.sub("", each).rpartition(":")[0] == HUB.sub("", name)]
    fitting = [each for each in here if reaches(version(each), runtime.least(model))]
    newest = max(fitting, key=lambda each: parts(version(each)), default=image)
    return Container(program=runs, image=newest, here=newest in fitting)


def version(image: str) -> str:
    """The version in an image's tag; empty for `latest` and the like, of which nobody knows."""
    found = re.match(r"v?(\d+(?:\.\d+)+)", image.rpartition(":")[2])
    return found[1] if found else ""


def images(runs: str) -> list[str]:
    """The images that are here, as `repository:tag`; none where nobody answers."""
    words = [runs, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.split() if ":" in line and "<none>" not in line]


# ---- The command


def inside(model: Model) -> Model:
    """The model as the container sees it: folders of this machine are put where `mounts` puts them."""
    return msgspec.structs.replace(
        model, target=_placed(model.target), drafter=_placed(model.drafter) if model.drafter else None
    )


def _placed(place: Path) -> Path:
    return Path(MODELS, place.name) if place.is_absolute() else place


def before(runtime: Runtime, model: Model, options: Options, secret: str) -> tuple[str, ...]:
    """The command line up to the words of the server's own, which follow its program's name.

    Args:
        secret: the variable that carries its API key, passed on by name only; empty without one.
    """
    image = options.container
    assert image is not None  # noqa: S101 - that is what is planned for
    return (
        *(image.program, "run", "--rm", "--name", f"advisor-{runtime.id}-{options.port}"),
        *gpu_flags(image.program, options.gpus),
        *("--ipc=host", "-p", f"127.0.0.1:{options.port}:{PORT}"),
        *(flag for mount in mounts(model) for flag in ("-v", mount)),
        *(("-e", secret) if secret and options.api_key else ()),
        *("--entrypoint", runtime.program, image.image),
    )


def mounts(model: Model) -> list[str]:
    """The Hub's cache, and folders that are named by their paths."""
    from advisor.files import shelves  # noqa: PLC0415

    folders = [place for place in (model.target, model.drafter) if place and place.is_absolute()]
    return [f"{shelves.hub_cache()}:{CACHE}", *(f"{place}:{_placed(place)}:ro" for place in folders)]


def gpu_flags(runs: str, gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    """What shows the container those GPUs and no others."""
    numbers = [str(gpu.index) for gpu in gpus]
    if gpus[0].vendor == "amd":
        shown = (flag for name, value in shown_cards(gpus).items() for flag in ("-e", f"{name}={value}"))
        return ("--device", "/dev/kfd", "--device", "/dev/dri", "--group-add", "video", *shown)
    if runs == "podman":
        devices = [flag for number in numbers for flag in ("--device", f"nvidia.com/gpu={number}")]
        return (*devices, "--security-opt", "label=disable")
    # Docker wants a list in quotes of its own.
    return ("--gpus", f'"device={",".join(numbers)}"')
