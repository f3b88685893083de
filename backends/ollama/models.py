"""What a model in Ollama's library is made of, from what `/api/show` says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from advisor.files import gguf
from advisor.files.gguf import Header
from advisor.machine import Record

BLOB = re.compile(r"sha256-([0-9a-f]{64})")
QUOTES = '"""'


class Shown(Record, frozen=True, kw_only=True):
    """A model. `target`: digest of its weights; `projectors`: of what else it is made from; `drafters`: of each drafter
    that is attached, the last one is used. `parameters`: values by name, as text. `facts`: of the target's header.
    `takes`: `completion`, `vision`, `thinking`, ...
    """

    target: str
    projectors: tuple[str, ...] = ()
    drafters: tuple[str, ...] = ()
    parameters: dict[str, tuple[str, ...]] = {}
    facts: dict[str, Any] = {}
    takes: tuple[str, ...] = ()

    @classmethod
    def read(cls, modelfile: str, facts: Mapping[str, Any], takes: Iterable[str]) -> Shown:
        """From the parts of the reply. The drafter shows up in the Modelfile alone."""
        layers: dict[str, list[str]] = {"FROM": [], "DRAFT": []}
        parameters: dict[str, list[str]] = {}
        for line in _logical(modelfile):
            word, _, rest = line.partition(" ")
            if word in layers and (found := BLOB.search(rest)):
                layers[word].append(f"sha256:{found[1]}")
            elif word == "PARAMETER":
                name, _, value = rest.partition(" ")
                parameters.setdefault(name, []).append(value.strip().strip('"'))
        target, *others = layers["FROM"] or [""]
        return cls(
            target=target,
            projectors=tuple(others),
            drafters=tuple(layers["DRAFT"]),
            parameters={name: tuple(values) for name, values in parameters.items()},
            facts=dict(facts),
            takes=tuple(takes),
        )

    @property
    def drafter(self) -> str | None:
        """Digest of the drafter that would be used."""
        return self.drafters[-1] if self.drafters else None

    def header(self, name: str) -> Header:
        """The target's header, as far as the server tells it."""
        scalars = {key: value for key, value in self.facts.items() if isinstance(value, str | int | float)}
        tokens = self.facts.get("tokenizer.ggml.tokens")
        return Header(
            path=Path(name),
            values=scalars,
            arrays={},
            lengths={"tokenizer.ggml.tokens": len(tokens)} if isinstance(tokens, list) else {},
            tensors={},
            parameters=int(scalars.get("general.parameter_count", 0)),
            total_bytes=0,
        )

    def check_drafter(self, drafter: Path, name: str) -> None:
        """The server takes any GGUF as a drafter and fails when it loads it: so look before.

        Raises:
            RuntimeFailed: the file is no drafter, or one of another model.
        """
        header, target = gguf.read(drafter), self.header(name)
        if not target.vocabulary:
            # The server leaves long arrays out, and Gemma's files tell their vocabulary by one only.
            values = {**target.values, f"{target.architecture}.vocab_size": header.vocabulary}
            target = Header(
                path=target.path, values=values, arrays={}, lengths={}, tensors={}, total_bytes=target.total_bytes
            )
        gguf.checked_drafter(header, target)


def _logical(modelfile: str) -> Iterable[str]:
    """Lines, where a text in triple quotes counts as one; comments are left out."""
    pending = ""
    for line in modelfile.splitlines():
        pending = f"{pending}\n{line}" if pending else line
        if pending.count(QUOTES) % 2:
            continue
        if pending.strip() and not pending.startswith("#"):
            yield pending.strip()
        pending = ""
    if pending:
        yield pending.strip()
