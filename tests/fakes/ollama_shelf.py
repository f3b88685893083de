"""What the tests' Ollama keeps: blobs by digest, manifests by name, and how both are shown."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
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
class Shelf:
    """What one server keeps. `room`: bytes free on its disk, None for enough."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, Manifest] = field(default_factory=dict)
    room: int | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

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
