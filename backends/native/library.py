"""The only module that touches llama.cpp's C API.

Everything above it sees models, contexts, batches and numpy views. It relies on `llama_cpp.llama_cpp_ext`, which calls
itself experimental: what is missing there ends in one sentence, not in an AttributeError. Nothing here may run in the
user's own process, because a failed assertion in llama.cpp ends the process (see `process.py`).
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from advisor.errors import RuntimeFailed

Logits = npt.NDArray[np.float32]
"""Scores, shape [rows, vocabulary]: a view of llama.cpp's buffer, valid until the context's next decode."""
Hidden = npt.NDArray[np.float32]
"""One state of the model, shape [width]: a view, as `Logits`."""

ERROR, CONTINUED = 4, 5
NO_SLOT = 1
SLIDING_ONLY = 1
"""LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: of a saved state only the sliding layers' cells; the others still have theirs."""
VISIBLE = frozenset({"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>'})
"""What marks thoughts and tool calls: text in files converted lately, control tokens without any in older ones."""
CONTROL, USER = 1 | 1 << 3, 1 << 4
"""LLAMA_TOKEN_ATTR_UNKNOWN and LLAMA_TOKEN_ATTR_CONTROL; LLAMA_TOKEN_ATTR_USER_DEFINED."""
MAX_PIECE = 256
"""Bytes of the longest token text."""
log: deque[str] = deque(maxlen=20)
"""llama.cpp's errors since the last call that may fail, oldest first."""
_level = 0


class ContextFull(RuntimeFailed):
    """The context has no room for what was asked."""

    code = "context_full"


@functools.cache
def api() -> ModuleType:
    """llama.cpp's C API, logging redirected.

    Raises:
        RuntimeFailed: llama-cpp-python is missing or another one than this engine needs.
    """
    try:
        library = import_module("llama_cpp.llama_cpp")
    except Exception as error:
        raise RuntimeFailed(
            f"llama-cpp-python cannot be loaded: {error}", hint="reinstall it", command="make setup"
        ) from error
    library.llama_log_set(_keep, ctypes.c_void_p(0))
    library.llama_backend_init()
    return library


@functools.cache
def extension() -> ModuleType:
    """The experimental part of the API, which MTP needs.

    Raises:
        RuntimeFailed: this llama-cpp-python does not have it.
    """
    try:
        found = import_module("llama_cpp.llama_cpp_ext")
        for name in ("llama_set_embeddings_nextn", "llama_get_embeddings_nextn_ith"):
            getattr(found, name)
        _ = api().LLAMA_CONTEXT_TYPE_MTP
    except (ImportError, AttributeError) as error:
        raise RuntimeFailed(
            f"llama-cpp-python {metadata.version('llama-cpp-python')} cannot run a drafter: {error}",
            hint="this engine was written for 0.3.36; install that one, or run without a drafter",
        ) from error
    return found


@ctypes.CFUNCTYPE(  # type: ignore[untyped-decorator]
    None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
)
def _keep(level: int, text: bytes, _data: int) -> None:
    """Keep errors, and pass them to standard error, which is the log file of the process."""
    global _level  # noqa: PLW0603 - a continued line has the level of the one before
    if level != CONTINUED:
        _level = level
    if _level == ERROR:
        line = text.decode("utf-8", errors="replace").rstrip()
        log.append(line)
        print(line, file=sys.stderr, flush=True)


def address(function: Any, *more: Any) -> Callable[..., int | None]:
    """A function of a context that gives a pointer, as one that gives a number: ctypes' own pointers cost more than
    what is done with them."""
    kind = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, *more)
    found: Callable[..., int | None] = ctypes.cast(function, kind)
    return found


def build() -> dict[str, Any]:
    """What is known of llama.cpp's build; names as llama-server's where it has them."""
    lib = api()
    return {
        "build_info": f"llama-cpp-python {metadata.version('llama-cpp-python')}",
        "system_info": lib.llama_print_system_info().decode("utf-8", errors="replace").strip(),
        "gpu_offload": bool(lib.llama_supports_gpu_offload()),
    }


def reason() -> str:
    """What llama.cpp said of its last failure, for the end of a sentence: its first message is the telling one."""
    said = log[0] if log else "no reason given"
    return said.split("error loading model: ")[-1]


class Model:
    """A loaded model with its vocabulary.

    Raises:
        RuntimeFailed: llama.cpp refuses the file.
    """

    def __init__(self, path: Path, *, gpu_layers: int | None = None) -> None:
        lib = api()
        params = lib.llama_model_default_params()
        if gpu_layers is not None:
            params.n_gpu_layers = gpu_layers
        self.path = path
        log.clear()
        self.handle: Any = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise RuntimeFailed(f"llama.cpp does not load {path}: {reason()}")
        self.vocab = lib.llama_model_get_vocab(self.handle)
        self.size = int(lib.llama_vocab_n_tokens(self.vocab))
        self.width = int(lib.llama_model_n_embd(self.handle))
        self.width_out = int(lib.llama_model_n_embd_out(self.handle))
        self.end = frozenset(t for t in range(self.size) if lib.llama_vocab_is_eog(self.vocab, t))
        self._pieces: dict[int, bytes] = {}

    def metadata(self, key: str) -> str | None:
        """A value of the file's header as text."""
        buffer = ctypes.create_string_buffer(1 << 16)
        size = api().llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", errors="replace") if size >= 0 else None

    def chat_template(self) -> str | None:
        text: bytes | None = api().llama_model_chat_template(self.handle, None)
        return text.decode("utf-8", errors="replace") if text else None

    def special(self, name: str) -> str:
        """The text of the `bos` or `eos` token."""
        token = getattr(api(), f"llama_vocab_{name}")(self.vocab)
        return self.text(token) if token >= 0 else ""

    def text(self, token: int) -> str:
        """How the vocabulary spells a token."""
        return str(api().llama_vocab_get_text(self.vocab, token).decode("utf-8", errors="replace"))

    def marks(self) -> list[str]:
        """Spellings of the tokens that give a text its form: what a stranger writes must not become one of them."""
        attribute = api().llama_vocab_get_attr
        kinds = ((token, attribute(self.vocab, token)) for token in range(self.size))
        spelled = [(self.text(token), kind) for token, kind in kinds if kind & (CONTROL | USER)]
        # A file's own tokens are words most often, and runs of line breaks.
        return [text for text, kind in spelled if kind & CONTROL or text.startswith("<|") or text.endswith("|>")]

    def tokenize(self, text: str, *, special: bool, begin: bool) -> list[int]:
        """Tokens of `text`. `special`: spellings like `<|turn>` are tokens; `begin`: put the first token before."""
        raw = text.encode("utf-8", errors="replace")
        lib = api()
        room = len(raw) + 8
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = lib.llama_tokenize(self.vocab, raw, len(raw), tokens, room, begin, special)
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes of one generated token; control tokens have none, but for those that mark something."""
        found = self._pieces.get(token)
        if found is None:
            lib = api()
            buffer = ctypes.create_string_buffer(MAX_PIECE)
            marks = self.text(token) in VISIBLE
            size = lib.llama_token_to_piece(self.vocab, token, buffer, MAX_PIECE, 0, marks)
            found = self._pieces[token] = buffer.raw[: max(0, size)]
        return found

    def close(self) -> None:
        if self.handle:
            api().llama_model_free(self.handle)
            self.handle = None


class Batch:
    """Rows to decode, as numpy arrays that llama.cpp reads in place: `token`, `pos`, `wanted`, for a drafter `hidden`.

    Args:
        rows: how many rows it can hold.
        width: floats of a row of `hidden`, shape [rows, width]; 0 for none.
    """

    def __init__(self, rows: int, width: int = 0) -> None:
        lib = api()
        self.token = np.zeros(rows, np.int32)
        self.pos = np.zeros(rows, np.int32)
        self.wanted = np.zeros(rows, np.int8)
        self.hidden = np.zeros((rows, width), np.float32)
        self._sequence = np.zeros(1, np.int32)
        self._sequences = np.full(rows, self._sequence.ctypes.data, np.uintp)
        self._counts = np.ones(rows, np.int32)

        def pointer(array: npt.NDArray[Any], field: str) -> Any:
            return array.ctypes.data_as(dict(lib.llama_batch._fields_)[field])

        self.struct = lib.llama_batch(n_tokens=0)
        self.struct.token = pointer(self.token, "token")
        self.struct.pos = pointer(self.pos, "pos")
        self.struct.n_seq_id = pointer(self._counts, "n_seq_id")
        self.struct.seq_id = pointer(self._sequences, "seq_id")
        self.struct.logits = pointer(self.wanted, "logits")
        if width:
            self.struct.embd = pointer(self.hidden, "embd")

    def fill(self, tokens: Sequence[int], position: int, *, all_wanted: bool) -> None:
        """Rows for `tokens` from `position` on; logits for all of them or only the last."""
        count = self.struct.n_tokens = len(tokens)
        if count == 1:
            # Most decodes have one row, and three numbers are written far sooner than three slices.
            self.token[0], self.pos[0], self.wanted[0] = tokens[0], position, 1
            return
        self.token[:count] = tokens
        self.pos[:count] = np.arange(position, position + count, dtype=np.int32)
        self.wanted[:count] = all_wanted
        self.wanted[count - 1] = 1


class Context:
    """A model's working memory: one sequence, its KV cache and its outputs.

    Args:
        tokens: length of the context.
        micro_batch: most rows of one decode.
        outputs: most rows of one decode that ask for logits; llama.cpp's buffers grow with it.
        target: for a drafter, the context whose KV cache it reads.
        hidden: whether the hidden state of each wanted row can be read.

    Raises:
        RuntimeFailed: llama.cpp cannot make it, most often for want of memory.
    """

    def __init__(
        self,
        model: Model,
        *,
        tokens: int,
        micro_batch: int,
        outputs: int,
        threads: int,
        target: Context | None = None,
        hidden: bool = False,
    ) -> None:
        lib = api()
        params = lib.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = params.n_ubatch = micro_batch
        params.n_outputs_max = outputs
        params.n_threads = params.n_threads_batch = threads
        params.swa_full = False  # else the sliding layers keep the whole context: 880 KiB a token for 31B
        params.no_perf = True
        if target is not None:
            extension()
            params.ctx_type = lib.LLAMA_CONTEXT_TYPE_MTP
            params.ctx_other = target.handle
        self.model = model
        self.micro_batch = micro_batch
        self.threads = threads
        log.clear()
        self.handle: Any = lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise RuntimeFailed(
                f"llama.cpp cannot make a context of {tokens:,} tokens for {model.path.name}: {reason()}",
                hint="a shorter context needs less memory",
            )
        self.tokens = int(lib.llama_n_ctx(self.handle))
        self._memory = lib.llama_get_memory(self.handle)
        self.window = int(lib.llama_model_n_swa(model.handle))
        """Tokens that the sliding layers see; 0 where none slides."""
        self._views: dict[tuple[int | None, tuple[int, ...]], npt.NDArray[np.float32]] = {}
        self._decode, self._get_logits = lib.llama_decode, address(lib.llama_get_logits)
        if hidden:
            extension().llama_set_embeddings_nextn(self.handle, True, True)
            self._get_hidden = address(extension().llama_get_embeddings_nextn_ith, ctypes.c_int32)

    def decode(self, batch: Batch) -> None:
        """Run the rows of `batch`.

        Raises:
            ContextFull: they do not fit.
            RuntimeFailed: llama.cpp failed; the cache is as before.
        """
        code = self._decode(self.handle, batch.struct)
        if code == NO_SLOT:
            raise ContextFull(f"the context of {self.tokens:,} tokens is full")
        if code:
            raise RuntimeFailed(f"llama.cpp could not decode (code {code}): {reason()}")

    def logits(self, rows: int) -> Logits:
        """Scores of the wanted rows of the last decode, shape [rows, vocabulary]."""
        return self._view(self._get_logits(self.handle), (rows, self.model.size))

    def hidden(self, row: int) -> Hidden:
        """The state of wanted row `row` of the last decode, shape [width]."""
        return self._view(self._get_hidden(self.handle, row), (self.model.width_out,))

    def _view(self, at: int | None, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        # Making a view costs more than a small argmax, and llama.cpp hands out the same few addresses: keep them.
        found = self._views.get((at, shape))
        if found is None:
            if not at:
                raise RuntimeFailed(f"llama.cpp gave no output: {reason()}")
            if len(self._views) > 64:  # noqa: PLR2004 - a handful is normal
                self._views.clear()
            pointer = ctypes.cast(at, ctypes.POINTER(ctypes.c_float))
            found = self._views[at, shape] = np.ctypeslib.as_array(pointer, shape)
        return found

    def use_threads(self, count: int) -> None:
        """Decode with `count` threads from now on."""
        if count != self.threads:
            api().llama_set_n_threads(self.handle, count, count)
            self.threads = count

    def keep(self, length: int) -> None:
        """Forget the cells from position `length` on."""
        if not api().llama_memory_seq_rm(self._memory, 0, length, -1):
            raise RuntimeFailed(f"llama.cpp could not go back to position {length}")

    def clear(self) -> None:
        api().llama_memory_clear(self._memory, False)

    @property
    def first(self) -> int:
        """The first position that all layers hold; -1 when the cache is empty."""
        return int(api().llama_memory_seq_pos_min(self._memory, 0))

    @property
    def saved_bytes(self) -> int:
        """What `save` would take."""
        return int(api().llama_state_seq_get_size_ext(self.handle, 0, SLIDING_ONLY))

    def save(self) -> npt.NDArray[np.uint8]:
        """A copy of the sliding layers' cells."""
        cells = np.empty(self.saved_bytes, np.uint8)
        pointer = cells.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        size = api().llama_state_seq_get_data_ext(self.handle, pointer, len(cells), 0, SLIDING_ONLY)
        return cells[:size]

    def restore(self, cells: npt.NDArray[np.uint8]) -> bool:
        """Put saved cells back; False where llama.cpp refuses: the cache must be cleared then."""
        pointer = cells.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        return bool(api().llama_state_seq_set_data_ext(self.handle, pointer, len(cells), 0, SLIDING_ONLY))

    def close(self) -> None:
        if self.handle:
            api().llama_free(self.handle)
            self.handle = None
