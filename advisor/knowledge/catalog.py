"""The catalogue: what `profiles/` says of models, devices and use cases. Data there, types and validation here.

Every file is checked when it is read: an unknown key, a missing field or a wrong unit is a `ProfileError` naming file
and key. Quantities are written with their unit (`24 GiB`, `1008 GB/s`) or as plain bytes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

import profiles
from advisor.errors import ProfileError, UsageError, unknown_name, wrong_key
from advisor.knowledge import compiled, names, profile
from advisor.knowledge.names import plain
from advisor.knowledge.profile import Bytes, Device, DrafterFile, ModelProfile, Quant, Runtime, UseCase
from advisor.machine import Record
from advisor.units import parse_bytes, parse_rate

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


class Catalog(Record, frozen=True, kw_only=True):
    """All profiles, by id. The look-ups forgive spelling; an unknown name is a `UsageError` with the nearest names."""

    models: dict[str, ModelProfile]
    devices: dict[str, Device]
    use_cases: dict[str, UseCase]
    runtimes: dict[str, Runtime] = {}
    """Those that read checkpoints instead of GGUF files."""

    def model(self, name: str) -> ModelProfile:
        """The model of that id or name (`26b`, `gemma-4-26B-A4B-it`), in any case."""
        wanted = plain_model(name)
        for model in self.models.values():
            if wanted in (model.id, plain_model(model.name), plain_model(model.repo)):
                return model
        raise unknown_name("model", name, self.models, command="advisor models")

    def use_case(self, name: str) -> UseCase:
        """The use case of that id, in any case and with spaces or underscores for hyphens."""
        wanted = re.sub(r"[\s_]+", "-", name.strip().lower())
        if wanted in self.use_cases:
            return self.use_cases[wanted]
        raise unknown_name("use case", name, self.use_cases, command="advisor recommend --help")

    def find_device(self, name: str) -> Device | None:
        """The device that a driver or a person calls so, or None: a laptop chip is never taken for the desktop card.

        A memory size at the end (`V100 32GB`) is allowed where the device is sold with it, and decides between bins of
        one chip (`M3 Max 36GB`).
        """
        return names.match(name, self.devices.values())

    def device(self, name: str) -> Device:
        """The device of that name, whatever its case, spaces and vendor prefix."""
        found = self.find_device(name)
        if found is None:
            raise unknown_name("device", name, [device.name for device in self.devices.values()])
        return found


def as_data(record: Record | dict[str, Any]) -> Any:
    """Plain dicts, lists and numbers for JSON: msgspec alone does not encode `Bytes` and `Bandwidth`."""
    return msgspec.to_builtins(record, enc_hook=int)


def plain_model(name: str) -> str:
    """A model's name without what all five share: `google/gemma-4-26B-A4B-it` -> `26b-a4b`."""
    plain = name.strip().lower().replace(" ", "-").rpartition("/")[2]
    return re.sub(r"^gemma-?4[-:]|-it$", "", plain)


# ---- Reading


class DeviceGroup(Record, frozen=True, kw_only=True):
    """Devices of one file that share a vendor, a kind and a source; each may override the source."""

    vendor: str
    kind: str
    source: str
    devices: list[dict[str, Any]]


class DeviceFile(Record, frozen=True, kw_only=True):
    groups: list[DeviceGroup]


class UseCaseFile(Record, frozen=True, kw_only=True):
    use_cases: list[UseCase]


class RuntimeFile(Record, frozen=True, kw_only=True):
    runtimes: list[Runtime]


T = TypeVar("T")


def load(folder: Path | None = None) -> Catalog:
    """The catalogue of `folder`, or advisor's own. Read once; changes on disk are not seen afterwards.

    Raises:
        ProfileError: naming the file and the key that is wrong.
    """
    return load_folder(folder)


@functools.lru_cache(maxsize=8)
def load_folder(folder: Path | None) -> Catalog:
    """The uncached part of `load`; its cache can be cleared by tests."""
    if folder is not None:
        return build(folder, str(folder))
    own = Path(next(iter(profiles.__path__), ""))
    if not own.is_dir():  # a zipped package
        from importlib.resources import files  # noqa: PLC0415 - slow to import, seldom needed

        return build(files("profiles"), "profiles")
    code = (Path(__file__), Path(profile.__file__))
    return compiled.load(own, code, Catalog, lambda: build(own, "profiles"))


def build(root: Traversable, label: str) -> Catalog:
    """The catalogue from its YAML files, checked."""
    models = sorted(_models(root, label), key=lambda model: model.architecture.parameters)
    catalog = Catalog(
        models={model.id: model for model in models},
        devices={device.id: device for device in _devices(root, label)},
        use_cases={use_case.id: use_case for use_case in _use_cases(root, label)},
        runtimes={runtime.id: runtime for runtime in _runtimes(root, label)},
    )
    check_use_cases(catalog, f"{label}/use_cases.yaml")
    return catalog


def _models(root: Traversable, label: str) -> Iterator[ModelProfile]:
    unique = Unique()
    for where, tree in _documents(root / "models", f"{label}/models"):
        model = convert(tree, ModelProfile, where)
        unique.add(model.id, where, "id")
        check_model(model, where)
        yield model


def _devices(root: Traversable, label: str) -> Iterator[Device]:
    ids, known = Unique(), Unique()
    for where, tree in _documents(root / "devices", f"{label}/devices"):
        for index, group in enumerate(convert(tree, DeviceFile, where).groups):
            shared = {"vendor": group.vendor, "kind": group.kind, "source": group.source}
            for position, fields in enumerate(group.devices):
                key = f"groups[{index}].devices[{position}]"
                device = convert({**shared, **fields}, Device, where, key)
                ids.add(device.id, where, f"{key}.id")
                for name in {plain(device.id), plain(device.name)}:
                    known.add(name, where, f"{key}.name")
                if not device.memory and device.kind != "cpu":
                    raise wrong_key(where, f"{key}.memory", "a GPU or SoC needs at least one memory size")
                yield device


def _use_cases(root: Traversable, label: str) -> Iterator[UseCase]:
    where, unique = f"{label}/use_cases.yaml", Unique()
    for index, use_case in enumerate(convert(read(root / "use_cases.yaml", where), UseCaseFile, where).use_cases):
        unique.add(use_case.id, where, f"use_cases[{index}].id")
        yield use_case


def _runtimes(root: Traversable, label: str) -> Iterator[Runtime]:
    where, unique = f"{label}/runtimes.yaml", Unique()
    if not (root / "runtimes.yaml").is_file():
        return
    for index, runtime in enumerate(convert(read(root / "runtimes.yaml", where), RuntimeFile, where).runtimes):
        unique.add(runtime.id, where, f"runtimes[{index}].id")
        if "usual" not in runtime.install:
            raise wrong_key(where, f"runtimes[{index}].install.usual", "missing")
        yield runtime


def read(file: Traversable, where: str) -> Any:
    """The plain data of one YAML file."""
    from advisor.knowledge import documents  # noqa: PLC0415 - YAML's parser is only needed when the profiles have changed

    return documents.read(file, where)


def _documents(folder: Traversable, label: str) -> Iterator[tuple[str, Any]]:
    """Every YAML file of a folder, by name: what to call it in a message, and its content."""
    hint = "a catalogue has models/*.yaml and devices/*.yaml"
    try:
        entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda e: e.name)
    except OSError as error:
        raise ProfileError(
            f"{label}: {error.strerror or error}", hint="a catalogue has models/ and devices/"
        ) from error
    if not entries:
        raise ProfileError(f"{label}: no .yaml file in it", hint=hint)
    for entry in entries:
        where = f"{label}/{entry.name}"
        yield where, read(entry, where)


def convert(tree: Any, kind: type[T], where: str, key: str = "") -> T:
    """Plain data as a record; what does not fit is a `ProfileError` with the path of the key."""
    try:
        return msgspec.convert(tree, kind, dec_hook=_quantity)
    except msgspec.ValidationError as error:
        raise _explained(str(error), where, key) from error


def _quantity(kind: type, value: Any) -> Any:
    parse = parse_bytes if kind is Bytes else parse_rate
    try:
        return kind(parse(value))
    except UsageError as error:
        raise ValueError(error.message) from error


def _explained(message: str, where: str, prefix: str) -> ProfileError:
    problem, _, path = message.partition(" - at `$")
    inner = path.rstrip("`").lstrip(".")
    if field := re.match(r"Object (?:contains unknown|missing required) field `(.+)`", problem):
        inner = f"{inner}.{field[1]}" if inner else field[1]
        problem = "unknown key" if "unknown" in problem else "missing"
    if "matching regex" in problem:
        problem = "must not be empty"
    key = f"{prefix}.{inner}" if prefix and inner else prefix or inner
    return wrong_key(where, key, problem)


# ---- Checks that need more than one field


class Unique:
    """Names that may occur once; remembers where each was first."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}

    def add(self, name: str, where: str, key: str) -> None:
        if name in self.first:
            raise wrong_key(where, key, f"{name!r} is already in {self.first[name]}")
        self.first[name] = f"{where} ({key})"


def check_model(model: ModelProfile, where: str) -> None:
    """Raises `ProfileError` where the figures of one model contradict each other."""
    shape = model.architecture
    owning = shape.layers - shape.kv_shared_layers
    if shape.kv_own_global + shape.kv_own_local != owning:
        raise wrong_key(where, "architecture.kv_own_global", f"with kv_own_local it must add up to {owning} layers")
    if not model.quants:
        raise wrong_key(where, "quants", "a model needs at least one file")
    _check_files(model.quants, "quants", shape.parameters, where)
    _check_files(model.drafter.files, "drafter.files", model.drafter.parameters, where)


PLAUSIBLE_BITS = (1.5, 20.0)
"""Bits per weight of a whole file, from the smallest quant to BF16 with the embeddings of a tiny drafter twice."""


def _check_files(group: Iterable[Quant | DrafterFile], key: str, parameters: int, where: str) -> None:
    names = Unique()
    for index, file in enumerate(group):
        names.add(file.name.lower(), where, f"{key}[{index}].name")
        bits = file.bytes * 8 / parameters
        low, high = PLAUSIBLE_BITS
        if not low <= bits <= high:
            problem = f"{bits:.2f} bits per weight cannot be; expected {low:g} to {high:g}"
            raise wrong_key(where, f"{key}[{index}].bytes", problem)


def check_use_cases(catalog: Catalog, where: str) -> None:
    """Raises `ProfileError` where a use case refers to a benchmark or a kind of output that no model has."""
    known = {name for model in catalog.models.values() for name in model.benchmarks}
    for index, use_case in enumerate(catalog.use_cases.values()):
        for name in use_case.weights:
            if name not in known:
                raise wrong_key(where, f"use_cases[{index}].weights.{name}", "no model has a benchmark of this name")
        if use_case.comfort_tokens_per_s < use_case.min_tokens_per_s:
            raise wrong_key(where, f"use_cases[{index}].comfort_tokens_per_s", "below the floor, min_tokens_per_s")
        for name in use_case.advice.models if use_case.advice else ():
            if name not in catalog.models:
                raise wrong_key(where, f"use_cases[{index}].advice.models", f"{name!r} is no model of the catalogue")
        for model in catalog.models.values():
            if use_case.output_kind not in model.drafter.acceptance:
                problem = f"{use_case.output_kind!r} is not in the drafter's acceptance of {model.id}"
                raise wrong_key(where, f"use_cases[{index}].output_kind", problem)
