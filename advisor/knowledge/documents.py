"""YAML files, read strictly: plain data or a `ProfileError` that names the file and the line or key."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from advisor.errors import ProfileError, wrong_key

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where the wheel has it: ten times faster."""

LARGEST_FILE = 64 * 1024
"""In bytes. libyaml recurses on nested brackets: a hundred thousand of them would end the process without a word."""


def read(file: Traversable, where: str) -> Any:
    """The plain data of one YAML file: dicts, lists, strings, finite numbers, booleans and nulls."""
    try:
        content = file.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise ProfileError(f"{where}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{where}: byte {error.start}: not UTF-8", hint="save the file as UTF-8") from error
    if len(content) > LARGEST_FILE:
        raise ProfileError(f"{where}: larger than {LARGEST_FILE} bytes", hint="split it into several files")
    try:
        node = yaml.compose(text, Loader=Loader)
        return {} if node is None else Tree(where).value(node, "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ProfileError(f"{where}: {line}not valid YAML: {problem}") from error
    except RecursionError as error:
        raise ProfileError(f"{where}: nested too deeply") from error


class Tree:
    """Turns YAML nodes into plain data: strict where PyYAML's own constructor is lenient, and three times faster.

    Duplicate keys, aliases (which could expand without end), tags and numbers that are not finite are errors.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.seen: set[int] = set()

    def value(self, node: yaml.Node, key: str) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, key)
        if id(node) in self.seen:
            raise wrong_key(self.where, key, "YAML aliases are not supported")
        self.seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, key)
        return [self.value(item, f"{key}[{index}]") for index, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                raise wrong_key(self.where, key, f"line {name_node.start_mark.line + 1}: a key must be a plain word")
            name = name_node.value
            inner = f"{key}.{name}" if key else name
            if name in content:
                raise wrong_key(self.where, inner, f"line {name_node.start_mark.line + 1}: given twice")
            content[name] = self.value(value_node, inner)
        return content

    def scalar(self, node: yaml.ScalarNode, key: str) -> Any:
        make = SCALARS.get(node.tag)
        if make is None:
            raise wrong_key(
                self.where, key, f"{node.value!r}: values of type {node.tag.rpartition(':')[2]} are not supported"
            )
        try:
            value = make(node.value)
        except ValueError as error:
            raise wrong_key(self.where, key, f"{node.value!r} is not a plain number") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise wrong_key(self.where, key, f"{node.value} is not a finite number")
        return value


SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": lambda text: float("nan") if "n" in text.lower() else float(text),
    "tag:yaml.org,2002:bool": lambda text: text.lower() in ("true", "yes", "on"),
    "tag:yaml.org,2002:null": lambda _: None,
}
