"""Ollama's library as a state machine: blobs by digest, manifests by name, and what creating, showing, pulling and
deleting do to them. Shapes and texts are those of the recordings."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.ollama_shelf import (
    NAME,
    QUANTIZABLE,
    Layer,
    Manifest,
    Refused,
    Shelf,
    count_words,
    facts,
    full,
    params_bytes,
    quant,
    sha,
)


@dataclass
class Library(Shelf):
    """What one server keeps. `registry`: what can be pulled, layers by tag. `refusals`: errors of the registry by tag.

    `room`: bytes free on its disk, None for enough. `old`: it knows no `draft_files`. `alters`: digests change in the
    check of an upload. `pull_dies_at`: bytes after which the server goes away.
    """

    registry: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    registry_params: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    partial: dict[str, int] = field(default_factory=dict)
    litter: list[str] = field(default_factory=list)
    old: bool = False
    alters: bool = True
    pull_dies_at: int | None = None
    piece: int = 1 << 18
    pause_s: float = 0.0
    _fresh: set[str] = field(default_factory=set)

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
