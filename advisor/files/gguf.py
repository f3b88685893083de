"""What is read from a GGUF header, and whether a target and a drafter belong together; `gguf` gives the tensor types.

Model files come from strangers, and llama.cpp ends the process on some of them. So every file is read here first, and
the reading is bounded by the file's size and by what any model needs: no count in it is believed, arrays are stepped
over instead of kept (a vocabulary has 262,144 strings), and each fault is a `RuntimeFailed` that names the file.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from pathlib import Path

import msgspec

from advisor.errors import RuntimeFailed, UsageError
from advisor.machine import Record

Scalar = int | float | bool | str

TARGET = "gemma4"
DRAFTER = "gemma4-assistant"
LOOKUP = Path("lookup")
"""In a drafter's place: guess from the text itself, without a model."""
OLD_DRAFTERS = {"gemma4_assistant", "gemma4_mtp"}
"""Spellings of community files that llama.cpp does not load."""
WIDTHS = {1536: "E2B", 2560: "E4B", 3840: "12B", 2816: "26B-A4B", 5376: "31B"}
"""`embedding_length` of the five targets (huggingface/transformers, configuration of each model)."""

CHECKPOINT_READERS = "transformers, vllm, sglang or mlx"
FETCH = "fetch it again and compare its size with the publisher's"
KEPT = 4096
"""Longest array of numbers that is kept: per-layer settings, never vocabularies."""
DIMENSIONS = 4
MOST_STRINGS = 1 << 21
"""In all arrays of a header; Gemma 4's tokens and merges are 776,000. More would only keep the reader busy."""
MOST_ENTRIES = 1 << 16
"""Values or tensors; the largest Gemma 4 file has 1,100 in all."""
LONGEST_TEXT = 1 << 24
LARGEST_TENSOR = 1 << 50
SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf")
MOST_PARTS = 100
CUT_OFF = "is cut off inside its header"
TEXT, ARRAY = 8, 9
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of values by GGUF's numbers: `struct`'s letters for those of fixed size."""
ALIGNMENT = 32
"""Of tensors, where the header does not say."""


class Header(Record, frozen=True, kw_only=True):
    """The header of a GGUF. `values`: scalars and texts; `arrays`: short arrays of numbers; `lengths`: of every array.

    `tensors`: bytes of each tensor by name; `types`: their types. `parameters`: weights in all tensors. `total_bytes`:
    of the file, or of all parts of a split one.
    """

    path: Path
    values: dict[str, Scalar]
    arrays: dict[str, tuple[float, ...]]
    lengths: dict[str, int]
    tensors: dict[str, int]
    types: dict[str, str] = {}
    parameters: int = 0
    total_bytes: int

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def embedding_length(self) -> int:
        return self.number("embedding_length")

    @property
    def embedding_length_out(self) -> int:
        """Width of what a drafter exchanges with its target; 0 where the file does not say."""
        return self.number("embedding_length_out")

    @property
    def context_length(self) -> int:
        """Tokens the model was trained for."""
        return self.number("context_length")

    @property
    def vocabulary(self) -> int:
        return self.lengths.get("tokenizer.ggml.tokens") or self.number("vocab_size")

    @property
    def name(self) -> str:
        """What the model calls itself, else the file's stem."""
        return str(self.values.get("general.name") or self.path.stem)

    def number(self, key: str) -> int:
        """A number of this architecture (`gemma4.<key>`), 0 where the file does not have it."""
        value = self.values.get(f"{self.architecture}.{key}", 0)
        return int(value) if isinstance(value, int | float) else 0


class DamagedError(Exception):
    """The header breaks the format; the text says how."""


class MoreNeededError(Exception):
    """The header goes on beyond the bytes that are here."""


class Cursor:
    """Reads little-endian values and never past the end.

    Args:
        data: the file, or its beginning.
        size: bytes of the whole file.
    """

    def __init__(self, data: mmap.mmap | bytes, size: int | None = None) -> None:
        self.data = data
        self.here = len(data)
        self.size = self.here if size is None else size
        self.at = 0
        self.strings = 0

    def skip(self, count: int) -> int:
        """Step over `count` bytes; returns where they begin."""
        begin = self.at
        if count < 0 or count > self.size - begin:
            raise DamagedError(CUT_OFF)
        if count > self.here - begin:
            raise MoreNeededError
        self.at = begin + count
        return begin

    def number(self, form: str) -> int:
        value: int = struct.unpack_from("<" + form, self.data, self.skip(struct.calcsize(form)))[0]
        return value

    def text(self) -> str:
        length = self.number("Q")
        if length > LONGEST_TEXT:
            raise DamagedError(f"holds a text of {length:,} bytes" if length <= self.size else CUT_OFF)
        begin = self.skip(length)
        return self.data[begin : begin + length].decode("utf-8", errors="replace")

    def kind(self) -> int:
        raw = self.number("I")
        if raw not in FORMATS and raw not in (TEXT, ARRAY):
            raise DamagedError(f"holds a value of the unknown type {raw}")
        return raw

    def array(self) -> tuple[int, tuple[float, ...]]:
        """An array's length, and its numbers where they are few."""
        kind, count = self.kind(), self.number("Q")
        if kind == TEXT:
            self._skip_strings(count)
            return count, ()
        if kind not in FORMATS:
            raise DamagedError("holds an array of arrays")
        form = FORMATS[kind]
        begin = self.skip(count * struct.calcsize(form))
        return count, struct.unpack_from(f"<{count}{form}", self.data, begin) if count <= KEPT else ()

    def _skip_strings(self, count: int) -> None:
        """Step over strings: the one loop that is as long as a vocabulary, hence without calls."""
        if count > self.size // 8:
            raise DamagedError(CUT_OFF)
        self.strings += count
        if self.strings > MOST_STRINGS:
            raise DamagedError(f"holds {self.strings:,} strings, more than any vocabulary")
        unpack, data, at, last = struct.Struct("<Q").unpack_from, self.data, self.at, self.here - 8
        for _ in range(count):
            if at > last:
                break
            at += 8 + unpack(data, at)[0]
        else:
            self.skip(at - self.at)
            return
        # Past the end in the middle of the array: of the file, or of what is here of it.
        raise MoreNeededError if at + 8 <= self.size else DamagedError(CUT_OFF)


def read(path: Path) -> Header:
    """Read and check the header of the GGUF file at `path`.

    Raises:
        RuntimeFailed: it is missing, not a file, empty, not a GGUF, damaged or cut off.
    """
    return _read(path, part=False)


def read_whole(path: Path) -> Header:
    """As `read`, with the tensors of all parts where the file is the first of several.

    Raises:
        RuntimeFailed: as `read`, or a part is missing or not the first.
    """
    names = part_names(path.name)
    header = read(path)
    return header if len(names) == 1 else joined(header, [_read(path.with_name(name), part=True) for name in names[1:]])


def part_names(name: str) -> tuple[str, ...]:
    """The file alone, or all parts of `x-00001-of-00002.gguf`.

    Raises:
        RuntimeFailed: it is a later part, or of more parts than there can be.
    """
    match = SPLIT.fullmatch(name)
    if match is None:
        return (name,)
    count = int(match["count"])
    if int(match["part"]) != 1 or not 1 <= count <= MOST_PARTS:
        first = f"{match['stem']}-00001-of-{match['count']}.gguf"
        raise RuntimeFailed(f"{name} is one part of a split file", hint=f"give the first part: {first}")
    return tuple(f"{match['stem']}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1))


def joined(first: Header, others: list[Header]) -> Header:
    """One header for all parts of a split file: the first one's settings, everybody's tensors."""
    parts = [first, *others]
    return msgspec.structs.replace(
        first,
        tensors={name: size for part in parts for name, size in part.tensors.items()},
        types={name: kind for part in parts for name, kind in part.types.items()},
        parameters=sum(part.parameters for part in parts),
        total_bytes=sum(part.total_bytes for part in parts),
    )


def _read(path: Path, *, part: bool) -> Header:
    if not path.exists():
        raise RuntimeFailed(f"there is no file {path}")
    if path.is_file() and not path.stat().st_size:
        raise RuntimeFailed(f"{path} is empty", hint=FETCH)
    if (path / "config.json").is_file():
        raise RuntimeFailed(
            f"{path} is a checkpoint's folder, and no GGUF file",
            hint=f"others read it: add --backend {CHECKPOINT_READERS}, and its assistant's folder with --drafter",
        )
    if not path.is_file():
        raise RuntimeFailed(f"{path} is not a file", hint="give the GGUF file itself, not the folder it is in")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse(path, Cursor(data), part=part)
    except DamagedError as error:
        raise RuntimeFailed(f"{path} {error}", hint=FETCH) from None
    except (OSError, ValueError, struct.error) as error:
        raise RuntimeFailed(f"{path} cannot be read: {error}") from error


def parse(path: Path, cursor: Cursor, *, part: bool = False) -> Header:
    """The header that a cursor reads. `part`: of a split file's later part, which need not say what it is.

    Raises:
        DamagedError: it breaks the format.
        MoreNeededError: it is longer than the bytes that are here.
    """
    if cursor.data[:4] != b"GGUF":
        raise DamagedError("is not a GGUF file")
    cursor.skip(4)
    version = cursor.number("I")
    if version not in (2, 3):
        raise DamagedError(f"is a GGUF of version {version}; versions 2 and 3 are known")
    tensor_count, value_count = cursor.number("Q"), cursor.number("Q")
    if max(tensor_count, value_count) > MOST_ENTRIES:
        raise DamagedError(f"claims {max(tensor_count, value_count):,} entries in its header: it is damaged or cut off")
    values: dict[str, Scalar] = {}
    arrays: dict[str, tuple[float, ...]] = {}
    lengths: dict[str, int] = {}
    for _ in range(value_count):
        key, kind = cursor.text(), cursor.kind()
        if key in values or key in lengths:
            raise DamagedError(f"has {key!r} twice")
        if kind == ARRAY:
            lengths[key], arrays[key] = cursor.array()
        elif kind == TEXT:
            values[key] = cursor.text()
        else:
            values[key] = cursor.number(FORMATS[kind])
    tensors, types, parameters = _tensors(cursor, tensor_count, values.get("general.alignment", ALIGNMENT))
    if not part and not values.get("general.architecture"):
        raise DamagedError("does not name its architecture")
    if not tensors and "split.count" not in values:
        raise DamagedError("holds no weights")
    return Header(
        path=path,
        values=values,
        arrays=arrays,
        lengths=lengths,
        tensors=tensors,
        types=types,
        parameters=parameters,
        total_bytes=cursor.size,
    )


def _tensors(cursor: Cursor, count: int, alignment: Scalar) -> tuple[dict[str, int], dict[str, str], int]:
    """Bytes and type of each tensor and the number of weights, after checking that all of them lie inside the file."""
    # numpy comes with it, which takes longer to import than a header to read: not for the catalogue's sizes.
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: PLC0415

    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise DamagedError(f"has the impossible alignment {alignment}")
    tensors: dict[str, int] = {}
    types: dict[str, str] = {}
    parameters = end = 0
    for _ in range(count):
        name, dimensions = cursor.text(), cursor.number("I")
        if dimensions > DIMENSIONS or name in tensors:
            raise DamagedError(f"has an impossible tensor {name[:64]!r}")
        elements = math.prod(cursor.number("Q") for _ in range(dimensions))
        raw = cursor.number("I")
        try:
            kind = GGMLQuantizationType(raw)
            block, size = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError):
            raise DamagedError(f"has a tensor of the unknown type {raw}: {name[:64]!r}") from None
        if elements > LARGEST_TENSOR:
            raise DamagedError(f"has an impossible tensor {name[:64]!r} of {elements:,} weights")
        tensors[name], types[name] = elements // block * size, kind.name
        parameters += elements
        end = max(end, cursor.number("Q") + tensors[name])
    begin = -(-cursor.at // alignment) * alignment
    if tensors and begin + end > cursor.size:
        raise DamagedError(f"is cut off: {cursor.size:,} bytes of {begin + end:,}")
    return tensors, types, parameters


def target(path: Path) -> Header:
    """The header of a Gemma 4 model.

    Raises:
        RuntimeFailed: as `read`, or it is another kind of file.
    """
    return checked_target(read(path))


def checked_target(header: Header) -> Header:
    """The header, if it is a Gemma 4 model's.

    Raises:
        RuntimeFailed: it is another kind of file.
    """
    path = header.path
    if header.architecture == DRAFTER or header.architecture in OLD_DRAFTERS:
        raise RuntimeFailed(
            f"{path} is a drafter ({header.architecture}), not a model",
            hint=f"give the model first and this file with --drafter{_owner_of(header)}",
        )
    if header.architecture != TARGET:
        raise RuntimeFailed(
            f"{path} is a {header.architecture[:64]!r} file; this engine runs Gemma 4 ({TARGET!r})",
            hint="see `advisor models` for the files that belong to Gemma 4",
        )
    _check_layers(header)
    return header


def _owner_of(drafter_header: Header) -> str:
    """Which model a drafter belongs to, for a hint."""
    owner = WIDTHS.get(drafter_header.embedding_length_out)
    return f": it belongs to Gemma 4 {owner}" if owner else ""


def _check_layers(header: Header) -> None:
    """What llama.cpp asserts instead of reporting: the last layers that own a KV cache slide, then are global."""
    pattern = header.arrays.get(f"{TARGET}.attention.sliding_window_pattern", ())
    layers = header.number("block_count")
    own = layers - header.number("attention.shared_kv_layers")
    if not header.embedding_length or not header.vocabulary or len(pattern) != layers:
        raise RuntimeFailed(f"{header.path} lacks Gemma 4's settings (width, vocabulary or pattern of sliding layers)")
    if own < 2 or tuple(map(bool, pattern[own - 2 : own])) != (True, False):  # noqa: PLR2004 - one of each kind
        raise RuntimeFailed(
            f"{header.path}: the last two layers that own a KV cache must be a sliding and a global one",
            hint="llama.cpp cannot run this file; use another conversion of the model",
        )


def drafter(path: Path, model: Header) -> Header:
    """The header of a drafter that belongs to `model`.

    Raises:
        RuntimeFailed: as `read`, or it is no drafter, or one of another model; the hint says which to take.
    """
    return checked_drafter(read(path), model)


def checked_drafter(header: Header, model: Header) -> Header:
    """The header, if it is that of a drafter that belongs to `model`.

    Raises:
        RuntimeFailed: it is no drafter, or one of another model; the hint says which to take.
    """
    path, wanted = header.path, _drafter_of(model)
    if header.architecture in OLD_DRAFTERS:
        raise RuntimeFailed(
            f"{path} is a drafter in the old format {header.architecture!r}, which llama.cpp does not load",
            hint=f"use a file whose architecture is {DRAFTER!r}: {wanted}",
        )
    if header.architecture != DRAFTER:
        raise RuntimeFailed(
            f"{path} is no drafter: its architecture is {header.architecture!r}, not {DRAFTER!r}",
            hint=f"the drafter of this model is {wanted}",
        )
    if header.embedding_length_out != model.embedding_length:
        owner = WIDTHS.get(header.embedding_length_out)
        raise RuntimeFailed(
            f"{path} does not belong to {model.path.name}: the drafter is made for a width of "
            f"{header.embedding_length_out}{f' ({owner})' if owner else ''}, the model's is {model.embedding_length}",
            hint=f"the drafter of this model is {wanted}",
        )
    if header.vocabulary != model.vocabulary:
        raise RuntimeFailed(
            f"{path} does not belong to {model.path.name}: "
            f"its vocabulary has {header.vocabulary:,} tokens, the model's {model.vocabulary:,}"
        )
    if header.embedding_length == header.embedding_length_out:
        raise RuntimeFailed(f"{path} is damaged: a drafter's own width differs from its target's")
    return header


def _drafter_of(model: Header) -> str:
    """The name of the right drafter, for a hint."""
    size = WIDTHS.get(model.embedding_length)
    return f"mtp-gemma-4-{size}-it.gguf" if size else f"a {DRAFTER!r} file made for a width of {model.embedding_length}"


def smaller(header: Header, model: Header) -> Header:
    """The header of a model that drafts for `model`: any that has the same vocabulary and fewer weights.

    Raises:
        RuntimeFailed: it does not; the hint says which drafter to take.
    """
    path, hint = header.path, f"the drafter of this model is {_drafter_of(model)}"
    if header.vocabulary != model.vocabulary:
        raise RuntimeFailed(
            f"{path} does not belong to {model.path.name}: "
            f"its vocabulary has {header.vocabulary:,} tokens, the model's {model.vocabulary:,}",
            hint=hint,
        )
    if header.parameters >= model.parameters:
        raise RuntimeFailed(
            f"{path} is no drafter for {model.path.name}: it has {header.parameters:,} weights, "
            f"the model {model.parameters:,}, and a drafter must be smaller",
            hint=hint,
        )
    return checked_target(header) if header.architecture == TARGET else header


def pair(model: Path, draft: Path | None) -> tuple[Header, Header | None]:
    """Both headers, checked against each other; None for a drafter that is no file.

    Raises:
        UsageError: the same file was given twice.
        RuntimeFailed: as `target`, `drafter` and `smaller`.
    """
    if draft is not None and draft == model:
        raise UsageError(f"{draft} is given as model and as drafter", hint="a drafter is a file of its own")
    header = target(model)
    if draft is None or draft == LOOKUP:
        return header, None
    found = read(draft)
    assistant = found.architecture == DRAFTER or found.architecture in OLD_DRAFTERS
    if assistant or any(name.startswith("nextn.") for name in found.tensors):
        return header, checked_drafter(found, header)
    return header, smaller(found, header)
