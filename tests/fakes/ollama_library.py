"""Ollama's library as a state machine: blobs by digest, manifests by name, and what creating, showing, pulling and
deleting do to them. Shapes and texts are those of the recordings."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from gguf import GGUFReader

TEMPLATE = "{{ .Prompt }}"
FAMILY = "application/vnd.ollama.image."
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 7: "Q8_0", 15: "Q4_K_M"}
QUANTIZABLE = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
NAME = re.compile(r"[\w.:/-]+")


class Refused(Exception):
    """An error of the server's. `early`: before the stream begins. `status`: where nothing is streamed."""

    def __init__(self, text: str, status: int = 400, *, early: bool = False, plain: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.early = early
        self.plain = plain
        """Sent without a charset, as the recordings show for some."""


@dataclass
class Layer:
    """`kind`: `model`, `draft`, `projector` or `params`. `source`: where it was taken from."""

    kind: str
    digest: str
    size: int
    source: str = ""

    def document(self) -> dict[str, Any]:
        made = {"mediaType": FAMILY + self.kind, "digest": self.digest, "size": self.size}
        return made | ({"from": self.source} if self.source else {})


@dataclass
class Manifest:
    """One model. `extra_files`: families of further files that were given with it."""

    layers: list[Layer]
    config: dict[str, Any]
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))

    def of(self, kind: str) -> list[Layer]:
        return [layer for layer in self.layers if layer.kind == kind]

    @property
    def target(self) -> str:
        """Digest of the file that is run: the one that is no drafter, where there are several."""
        return self.of("model")[-1].digest

    @property
    def config_bytes(self) -> bytes:
        return json.dumps(self.config, separators=(",", ":")).encode() + b"\n"

    @property
    def digest(self) -> str:
        document = {"config": sha(self.config_bytes), "layers": [layer.document() for layer in self.layers]}
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers) + len(self.config_bytes)


@dataclass
class Library:
    """What one server keeps. `registry`: what can be pulled, layers by tag. `refusals`: errors of the registry by tag.

    `room`: bytes free on its disk, None for enough. `old`: it knows no `draft_files`. `alters`: digests change in the
    check of an upload. `pull_dies_at`: bytes after which the server goes away.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, Manifest] = field(default_factory=dict)
    registry: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    registry_params: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    partial: dict[str, int] = field(default_factory=dict)
    litter: list[str] = field(default_factory=list)
    room: int | None = None
    old: bool = False
    alters: bool = True
    pull_dies_at: int | None = None
    piece: int = 1 << 18
    pause_s: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)
    _fresh: set[str] = field(default_factory=set)

    # ---- Blobs

    def check_digest(self, digest: str) -> None:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise Refused("invalid digest format")

    def take_blob(self, digest: str, data: bytes) -> None:
        """Keep an upload; under its real digest, whatever was promised."""
        if self.room is not None and len(data) > self.room:
            raise Refused("write <models>/blobs/sha256-partial: no space left on device", 500)
        real = sha(data)
        self.blobs[real] = data
        if real != digest:
            raise Refused(f'digest mismatch, expected "{digest}", got "{real}"')

    # ---- Creating

    def create(self, body: dict[str, Any]) -> Iterator[str]:
        """Make a model; yields the stream's statuses. Checks that come before the stream are made at the first one.
        Closed before its end, it leaves a full-size copy of the target among the blobs."""
        try:
            yield from self._steps(body)
        except GeneratorExit:
            self.litter += ["COPY"] if body.get("files") else []
            raise

    def _steps(self, body: dict[str, Any]) -> Iterator[str]:
        name, source = body.get("model") or body.get("name") or "", body.get("from")
        files, drafts = body.get("files"), None if self.old else body.get("draft_files")
        self._check_create(name, source, files, drafts, body)
        base = None
        if source and full(source) not in self.models:
            yield "pulling manifest"
            raise Refused(self._unreachable(source), 500)
        if source:
            base = self.models[full(source)]
        yield from self._parsed(files, 500)
        yield from self._parsed(drafts, 400)
        layers = self._inherited(base, full(source or "")) if base else (yield from self._converted(files or {}))
        layers += yield from self._drafts(drafts or {}, str(body.get("draft_quantize") or "").upper())
        parameters = (self.parameters(base) if base else self._usual(layers)) | (body.get("parameters") or {})
        if parameters:
            layers.append(self._kept("params", params_bytes(parameters)))
        for layer in layers:
            yield f"{'creating new' if layer.digest in self._fresh else 'using existing'} layer {layer.digest}"
        self._fresh.clear()
        yield "writing manifest"
        with self.lock:
            self.models[full(name)] = Manifest(layers, self._config(layers, base))
        yield "success"

    def _parsed(self, files: dict[str, str] | None, status: int) -> Iterator[str]:
        for digest in (files or {}).values():
            yield "parsing GGUF"
            self._gguf(digest, status)

    def _inherited(self, base: Manifest, name: str) -> list[Layer]:
        return [Layer(each.kind, each.digest, each.size, name) for each in base.layers if each.kind != "params"]

    def _converted(self, files: dict[str, str]) -> Generator[str, None, list[Layer]]:
        """Layers of uploaded targets, in the order of their names."""
        for _ in files:
            yield "verifying conversion"
            time.sleep(self.pause_s)
        return [self._checked(digest) for _, digest in sorted(files.items())]

    def _kept(self, kind: str, data: bytes, source: str = "") -> Layer:
        """A layer of these bytes; new, where they were not there."""
        digest = sha(data)
        if digest not in self.blobs:
            self._fresh.add(digest)
        self.blobs[digest] = data
        return Layer(kind, digest, len(data), source)

    def _check_create(self, name: str, source: str | None, files: Any, drafts: Any, body: dict[str, Any]) -> None:
        if not NAME.fullmatch(name):
            raise Refused("invalid model name", early=True)
        if body.get("draft_quantize") and not drafts:
            raise Refused("--draft-quantize requires a DRAFT model", early=True)
        for each in (files, drafts):
            for path, digest in (each or {}).items():
                if path.startswith("/") or ".." in path.split("/"):
                    raise Refused("file path must be relative", early=True)
                if not digest:
                    raise Refused("invalid digest format", early=True)
        if drafts == {}:
            raise Refused("unknown type", early=True, plain=True)
        if not source and not files:
            raise Refused("neither 'from' or 'files' was specified", early=True, plain=True)

    def _gguf(self, digest: str, status: int) -> None:
        self.check_digest(digest)
        data = self.blobs.get(digest)
        if data is None:
            blob = digest.replace(":", "-")
            raise Refused(f"open <models>/blobs/{blob}: no such file or directory", status)
        try:
            known = facts(data)
        except (ValueError, IndexError):
            known = {}
        if not known:
            raise Refused("supplied file was not in GGUF format", status)

    def _checked(self, digest: str) -> Layer:
        """The layer of an uploaded target. Checking copies it; files of plain floats come out changed."""
        data = self.blobs[digest]
        if self.room is not None and len(data) > self.room:
            raise Refused("write <models>/blobs/COPY: no space left on device", 500)
        if self.alters and facts(data).get("general.file_type") == 1:
            data = data[:-1] + bytes([data[-1] ^ 1])
        return self._kept("projector" if facts(data).get("general.architecture") == "clip" else "model", data)

    def _drafts(self, drafts: dict[str, str], asked: str) -> Generator[str, None, list[Layer]]:
        """Layers of the drafters, changed where that was asked for."""
        made = []
        for digest in drafts.values():
            data = self.blobs[digest]
            if asked:
                if asked not in QUANTIZABLE:
                    supported = ", ".join(QUANTIZABLE)
                    raise Refused(f"unsupported quantization type {asked} - supported types are {supported}")
                have = quant(facts(data))
                if have not in ("F32", "F16"):
                    raise Refused(f"draft quantization requires an unquantized draft model, got {have}")
                yield "verifying conversion"
                data = data[:-1] + b"\1"
            made.append(self._kept("draft", data, "drafter.gguf"))
        return made

    def _usual(self, layers: list[Layer]) -> dict[str, Any]:
        """Parameters that come with a target's architecture."""
        return {"stop": ["<turn|>"]} if any(self._architecture(layer) == "gemma4" for layer in layers) else {}

    def _architecture(self, layer: Layer) -> str:
        return str(facts(self.blobs[layer.digest]).get("general.architecture", ""))

    def _config(self, layers: list[Layer], base: Manifest | None) -> dict[str, Any]:
        models = [layer for layer in layers if layer.kind == "model"]
        drafts = [layer for layer in layers if layer.kind == "draft"]
        if base is not None:
            made = {key: value for key, value in base.config.items() if key not in ("draft", "architecture", "os")}
        else:
            told = facts(self.blobs[models[0].digest])
            families = [self._architecture(layer) for layer in models]
            made = {
                "model_format": "gguf", "model_family": families[0], "model_families": families,
                "model_type": count_words(told["general.parameter_count"]), "file_type": quant(told),
            }  # fmt: skip
            if "gemma4" in families:
                made |= {"renderer": "gemma4", "parser": "gemma4"}
        if drafts:
            made["draft"] = {"model_format": "gguf", "architecture": self._architecture(drafts[0])}
        return made | {"architecture": "amd64", "os": "linux"}

    # ---- Looking

    def manifest(self, name: str) -> Manifest:
        """The model of that name.

        Raises:
            Refused: 404.
        """
        found = self.models.get(full(name))
        if found is None:
            raise Refused(f"model '{name}' not found", 404)
        return found

    def parameters(self, manifest: Manifest) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for layer in manifest.of("params"):
            found |= json.loads(self.blobs[layer.digest])
        return found

    def details(self, manifest: Manifest, *, parent: bool = True) -> dict[str, Any]:
        source = manifest.of("model")[0].source
        return {
            "parent_model": source if parent else "",
            "format": manifest.config["model_format"],
            "family": manifest.config["model_family"],
            "families": manifest.config["model_families"],
            "parameter_size": manifest.config["model_type"],
            "quantization_level": manifest.config["file_type"],
        }

    def capabilities(self, manifest: Manifest) -> list[str]:
        found = ["completion"]
        if manifest.of("projector"):
            found.append("vision")
        return found + (["tools", "thinking"] if manifest.config.get("renderer") else [])

    def tag(self, name: str, manifest: Manifest) -> dict[str, Any]:
        told = facts(self.blobs[manifest.target])
        architecture = told["general.architecture"]
        more = {key: told[f"{architecture}.{key}"] for key in ("context_length", "embedding_length")}
        return {
            "name": name, "model": name, "modified_at": stamp(manifest.modified), "size": manifest.size,
            "digest": manifest.digest, "details": self.details(manifest) | more,
            "capabilities": self.capabilities(manifest),
        }  # fmt: skip

    def show(self, name: str, *, verbose: bool) -> dict[str, Any]:
        manifest = self.models.get(full(name))
        if manifest is None:
            raise Refused(f"model '{full(name)}' not found", 404)
        told = facts(self.blobs[manifest.target])
        parameters = self.parameters(manifest)
        made = {
            "modelfile": self._modelfile(full(name), manifest, parameters),
            "template": TEMPLATE,
            "details": self.details(manifest),
            "model_info": {
                key: None if isinstance(value, list) and not verbose else value
                for key, value in told.items()
                if key != "general.name"
            },
            "tensors": tensors(self.blobs[manifest.target]),
            "capabilities": self.capabilities(manifest),
            "modified_at": stamp(manifest.modified),
        }
        if parameters:
            lines = [f"{key:<30} {_quoted(each)}" for key, value in parameters.items() for each in _listed(value)]
            made["parameters"] = "\n".join(lines)
        return made

    def _modelfile(self, name: str, manifest: Manifest, parameters: dict[str, Any]) -> str:
        def blob(digest: str) -> str:
            return f"<models>/blobs/{digest.replace(':', '-')}"

        lines = [
            '# Modelfile generated by "ollama show"',
            "# To build a new Modelfile based on this, replace FROM with:",
            f"# FROM {name}",
            "",
            f"FROM {blob(manifest.target)}",
            *(f"FROM {blob(layer.digest)}" for layer in manifest.of("projector")),
            *(f"DRAFT {blob(layer.digest)}" for layer in manifest.of("draft")[-1:]),
            f"TEMPLATE {TEMPLATE}",
            *(f"{key.upper()} {manifest.config[key]}" for key in ("renderer", "parser") if key in manifest.config),
            *(f"PARAMETER {key} {each}" for key, value in parameters.items() for each in _listed(value)),
        ]
        return "\n".join(lines) + "\n"

    # ---- Pulling, copying, deleting

    def pull(self, tag: str) -> Iterator[dict[str, Any]]:
        """Pull a tag; yields the stream's objects. What has come stays, and the next pull goes on there."""
        yield {"status": "pulling manifest"}
        if tag in self.refusals:
            raise Refused(f"pull model manifest: {self.refusals[tag]}", 500)
        if tag not in self.registry:
            raise Refused(self._unreachable(tag), 500)
        for _, data in self.registry[tag]:
            yield from self._pull_layer(data)
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        layers = [Layer(kind, sha(data), len(data)) for kind, data in self.registry[tag]]
        data = params_bytes(self.registry_params.get(tag, {"stop": ["<turn|>"]}))
        self.blobs[sha(data)] = data
        layers.append(Layer("params", sha(data), len(data)))
        with self.lock:
            self.models[full(tag)] = Manifest(layers, self._config(layers, None))
        yield {"status": "success"}

    def _pull_layer(self, data: bytes) -> Iterator[dict[str, Any]]:
        digest, total = sha(data), len(data)
        status = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
        done = total if digest in self.blobs else self.partial.get(digest, 0)
        yield status | ({"completed": done} if done else {})
        while done < total:
            if self.room is not None and done + self.piece > self.room:
                raise Refused(
                    f"write <models>/blobs/{digest.replace(':', '-')}-partial-0: no space left on device", 500
                )
            if self.pull_dies_at is not None and done + self.piece > self.pull_dies_at:
                raise ServerGoneError
            time.sleep(self.pause_s)
            done = min(done + self.piece, total)
            self.partial[digest] = done
            yield status | {"completed": done}
        self.partial.pop(digest, None)
        self.blobs[digest] = data

    def _unreachable(self, name: str) -> str:
        """What the server says where it cannot reach a registry: there is none here."""
        host, found, path = name.partition("/")
        if not found or "." not in host:
            path = f"library/{name.partition(':')[0]}"
            url = f"https://registry.ollama.ai/v2/{path}/manifests/{name.partition(':')[2] or 'latest'}"
            return f'pull model manifest: Get "{url}": dial tcp: lookup registry.ollama.ai on <resolver>: no such host'
        url = f"https://{host}/v2/{path}/manifests/latest"
        return f'pull model manifest: Get "{url}": dial tcp {host}: connect: connection refused'

    def copy(self, source: str, destination: str) -> None:
        found = self.manifest(source)
        self.models[full(destination)] = Manifest(list(found.layers), dict(found.config))

    def delete(self, name: str) -> None:
        """Take a model away, and the blobs that nothing needs any more."""
        gone = self.manifest(name)
        with self.lock:
            del self.models[full(name)]
        used = {layer.digest for manifest in self.models.values() for layer in manifest.layers}
        for layer in gone.layers:
            if layer.digest not in used:
                self.blobs.pop(layer.digest, None)


class ServerGoneError(Exception):
    """The server ends in the middle of what it does."""


def full(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def params_bytes(parameters: dict[str, Any]) -> bytes:
    """As Go writes it: sorted, with `<`, `>` and `&` escaped, and a newline."""
    text = json.dumps(dict(sorted(parameters.items())), separators=(",", ":"), ensure_ascii=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text.encode() + b"\n"


def stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def count_words(number: int) -> str:
    return f"{number / 1e9:.1f}B" if number >= 10**9 else f"{number / 1e6:.2f}M"


def quant(told: dict[str, Any]) -> str:
    return FILE_TYPES.get(told.get("general.file_type", 0), "unknown")


@cache
def _read(data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with tempfile.NamedTemporaryFile(suffix=".gguf", delete=False) as file:
        file.write(data)
    reader = GGUFReader(file.name)
    found = {
        name: _rounded(each.contents()) for name, each in sorted(reader.fields.items()) if not name.startswith("GGUF.")
    }
    listed = [
        {"name": each.name, "type": each.tensor_type.name, "shape": [int(size) for size in each.shape]}
        for each in reader.tensors
    ]
    found["general.parameter_count"] = sum(int(each.n_elements) for each in reader.tensors)
    del reader
    Path(file.name).unlink()
    return found, listed


def _rounded(value: Any) -> Any:
    """A number as short as its 32 bits allow."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def facts(data: bytes) -> dict[str, Any]:
    """A GGUF's metadata; nothing for what is none."""
    return dict(_read(data)[0]) if data.startswith(b"GGUF") else {}


def tensors(data: bytes) -> list[dict[str, Any]]:
    return list(_read(data)[1])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
