"""The model that is made from a bare target and its drafter: its name, its parameters, and both ways to make it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from advisor.machine import Record
from backends.base import Model, Options
from backends.ollama.digests import placed
from backends.ollama.models import Shown

PREFIX = "advisor-"
PLACES = {"num_gpu", "num_thread"}
"""Parameters that say where it runs: not the same model without them."""
Value = int | float


class Recipe(Record, frozen=True, kw_only=True):
    """What is to be made. `base`: the bare target, a tag of the library or made from `files`; `name`: of the model that
    is derived from it."""

    name: str
    base: str
    files: tuple[Path, ...] = ()
    drafter: Path | None = None
    parameters: dict[str, Value]


def recipe(model: Model, options: Options) -> Recipe:
    """What a model becomes in Ollama's library."""
    stem = _slug(model.tag or model.target.stem)
    return Recipe(
        name=f"{PREFIX}{stem}{'-mtp' if drafts(model) else ''}",
        base=model.tag or f"{PREFIX}{stem}-bare",
        files=() if model.tag else tuple(path for path in (model.target, model.projector) if path is not None),
        drafter=model.drafter if drafts(model) else None,
        parameters=_parameters(model) | _placed(options),
    )


def drafts(model: Model) -> bool:
    return model.drafter is not None and model.draft_tokens > 0


def _slug(name: str) -> str:
    """`gemma4:26b-a4b-it-qat` as `gemma4-26b-qat`: what all of a size's tags share says nothing."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
    return re.sub(r"^(gemma4-\w+)(-a4b)?-it(?=-|$)", r"\1", plain)[:80]


def _parameters(model: Model) -> dict[str, Value]:
    found: dict[str, Value] = {"num_ctx": model.context_tokens}
    if drafts(model):
        found["draft_num_predict"] = model.draft_tokens
    # `top_k` is a whole number, and Ollama insists on it.
    return found | {name: int(value) if value == int(value) else value for name, value in model.sampling.items()}


def _placed(options: Options) -> dict[str, Value]:
    """Layers on the GPU and threads of the processor, which become flags of its llama-server. Layers that were reckoned
    for certain cards are not asked for: it divides them by itself, and moves experts too."""
    found = {"num_gpu": None if options.gpus else options.gpu_layers, "num_thread": options.threads}
    return {name: value for name, value in found.items() if value is not None}


# ---- Looking at what is there


def _ours(base: Shown | None, made: Recipe) -> dict[str, Value]:
    """Our parameters. A drafter that the base brings is not loaded where none was asked for."""
    unwanted = base is not None and base.drafters and "draft_num_predict" not in made.parameters
    return made.parameters | ({"draft_num_predict": 0} if unwanted else {})


def same(found: Shown, base: Shown, made: Recipe, drafter: str | None) -> bool:
    """Whether a model is what would be made: the same weights and drafter, and our parameters. What else it takes from
    the base (template, licence) is not compared: servers write it differently from one version to the next.

    Args:
        drafter: digest of the one that is to be attached; None leaves what the base brings.
    """
    ours = _ours(base, made)
    return (
        found.target == base.target
        and found.projectors == base.projectors
        and found.drafters == ((drafter,) if drafter else base.drafters)
        and all(_numbers(found.parameters.get(name)) == [value] for name, value in ours.items())
        and all(found.parameters.get(name) == base.parameters.get(name) for name in PLACES - ours.keys())
    )


def _numbers(texts: tuple[str, ...] | None) -> list[object]:
    """A parameter's values, numbers as numbers: 1 and 1.0 are the same."""
    return [_number(text) for text in texts or ()]


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


# ---- Showing it


def command(made: Recipe) -> str:
    """The user's own way: a Modelfile and `ollama create`, ready for a shell."""
    steps = [f"ollama pull {shlex.quote(made.base)}"] if not made.files else []
    file = "\n".join([*modelfile(made), ""])
    steps += [f"cat > Modelfile <<'END'\n{file}END"]
    steps += [f"ollama create {made.name} -f Modelfile", f"ollama run {made.name}"]
    return "\n".join(steps)


def modelfile(made: Recipe) -> list[str]:
    """The lines of the Modelfile."""
    sources = [str(path) for path in made.files] or [made.base]
    lines = [f"FROM {source}" for source in sources]
    lines += [f"DRAFT {made.drafter}"] if made.drafter else []
    return lines + [f"PARAMETER {name} {value}" for name, value in made.parameters.items()]


def requests(made: Recipe, url: str) -> tuple[dict[str, str], ...]:
    """The same as calls of the API."""

    def call(method: str, path: str, body: str = "") -> dict[str, str]:
        return {"method": method, "url": f"{url}{path}", **({"body": body} if body else {})}

    found = [] if made.files else [call("POST", "/api/pull", json.dumps({"model": made.base}))]
    known = {path: placed(path) or f"sha256:<of {path.name}>" for path in (*made.files, made.drafter) if path}
    for path, digest in known.items():
        found += [call("HEAD", f"/api/blobs/{digest}"), call("POST", f"/api/blobs/{digest}", f"@{path}")]
    if made.files:
        body = {"model": made.base, "files": {path.name: known[path] for path in made.files}}
        found.append(call("POST", "/api/create", json.dumps(body)))
    body = body_of(made, drafter=known.get(made.drafter) if made.drafter else None)
    found.append(call("POST", "/api/create", json.dumps(body)))
    found.append(call("POST", "/api/generate", json.dumps({"model": made.name, "keep_alive": -1})))
    return tuple(found)


def body_of(made: Recipe, base: Shown | None = None, drafter: str | None = None) -> dict[str, Any]:
    """The request that derives the model. An empty `draft_files` would be an error, so it is left out."""
    body: dict[str, Any] = {"model": made.name, "from": made.base}
    if drafter and made.drafter:
        body["draft_files"] = {made.drafter.name: drafter}
    return body | {"parameters": _ours(base, made)}
