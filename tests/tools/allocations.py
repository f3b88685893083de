"""What llama.cpp allocates for a file, as it logs it; run as a child process, because a failed assertion ends it.

With `RPC_SERVER` (host:port of llama.cpp's `ggml-rpc-server`) and `LLAMA_CPP_LIB_PATH` (a llama.cpp built with RPC), a
second device takes the place of a GPU.

`python -m tests.tools.allocations` reads cases as JSON lines on standard input and answers one JSON line each. Nothing
of the size of a model is ever filled: buffers of weights are allocated and the load is stopped before the first byte
is read, and contexts are made of models whose allocations llama.cpp only simulates (`no_alloc`).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MIB = 1 << 20
KV_TYPES = {"f16": 1, "q4_0": 2, "q8_0": 8}
"""`enum ggml_type`."""
ROOT = Path(__file__).parents[2]

MODEL_BUFFER = re.compile(r"(\S+) model buffer size = +([\d.]+) MiB")
COMPUTE_BUFFER = re.compile(r"(\S+) compute buffer size = +([\d.]+) MiB")
OUTPUT_BUFFER = re.compile(r"(\S+) +output buffer size = +([\d.]+) MiB")
KV_SIZE = re.compile(r": size = +([\d.]+) MiB \( *(\d+) cells, +(\d+) layers")


@contextmanager
def children(**environment: str) -> Iterator[Any]:
    """A function that answers a case by a child process, which has this added to its environment."""
    command = [sys.executable, "-m", "tests.tools.allocations"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def ask(**case: Any) -> dict[str, Any]:
            child.stdin.write(json.dumps(case) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
            if not line:
                raise RuntimeError(f"llama.cpp ended the process ({child.wait()}) on {case}")
            return json.loads(line)

        yield ask
        child.stdin.close()


def parse(lines: list[str]) -> dict[str, Any]:
    """The buffers in a log, in MiB: `model` and `compute` by buffer name, `kv` as (MiB, cells, layers), `output`."""
    found: dict[str, Any] = {"model": {}, "compute": {}, "kv": [], "output": 0.0}
    for line in lines:
        if match := MODEL_BUFFER.search(line):
            found["model"][match[1]] = found["model"].get(match[1], 0.0) + float(match[2])
        elif match := COMPUTE_BUFFER.search(line):
            found["compute"][match[1]] = float(match[2])
        elif match := OUTPUT_BUFFER.search(line):
            found["output"] = float(match[2])
        elif match := KV_SIZE.search(line):
            found["kv"].append((float(match[1]), int(match[2]), int(match[3])))
    return found


def add_device(folder: Path, server: str) -> None:
    """Make an RPC server a device of this process."""
    rpc, ggml = ctypes.CDLL(str(folder / "libggml-rpc.so")), ctypes.CDLL(str(folder / "libggml.so"))
    rpc.ggml_backend_rpc_add_server.restype = ctypes.c_void_p
    rpc.ggml_backend_rpc_add_server.argtypes = [ctypes.c_char_p]
    ggml.ggml_backend_register.argtypes = [ctypes.c_void_p]
    ggml.ggml_backend_register(rpc.ggml_backend_rpc_add_server(server.encode()))


class Runtime:
    """llama.cpp in this process, its log kept."""

    def __init__(self) -> None:
        from llama_cpp import llama_cpp as lib
        from llama_cpp import llama_cpp_ext as extension

        self.lib, self.extension = lib, extension
        self.lines: list[str] = []

        @ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        def keep(_level: int, text: bytes, _data: int) -> None:
            self.lines.append(text.decode("utf-8", errors="replace").rstrip())

        @lib.llama_progress_callback
        def stop(_progress: float, _data: int) -> bool:
            return False

        self.keep, self.stop = keep, stop
        lib.llama_log_set(keep, ctypes.c_void_p(0))
        lib.llama_backend_init()
        if server := os.environ.get("RPC_SERVER"):
            add_device(Path(os.environ["LLAMA_CPP_LIB_PATH"]), server)

    def weights(self, path: str, *, repack: bool, mapped: bool) -> dict[str, Any]:
        """The buffers of a file's weights."""
        params = self.lib.llama_model_default_params()
        params.use_extra_bufts = repack
        params.load_mode = 1 if mapped else 0
        params.progress_callback = self.stop
        self.lines.clear()
        if model := self.lib.llama_model_load_from_file(path.encode(), params):
            self.lib.llama_model_free(model)
        return parse(self.lines)

    def model(self, path: str, gpu_layers: int = -1) -> Any:
        params = self.lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.load_mode, params.no_alloc = 0, True
        self.lines.clear()
        model = self.lib.llama_model_load_from_file(path.encode(), params)
        if not model:
            raise RuntimeError("\n".join(self.lines[-5:]))
        return model

    def context(self, model: Any, asked: dict[str, Any], target: Any = None) -> tuple[Any, dict[str, Any]]:
        """A context and its buffers."""
        lib = self.lib
        params = lib.llama_context_default_params()
        params.n_ctx = asked["context"]
        params.n_ubatch = asked.get("ubatch", 512)
        params.n_batch = asked.get("batch", max(2048, params.n_ubatch))
        params.n_seq_max = asked.get("sequences", 1)
        params.kv_unified = True
        params.n_outputs_max = asked.get("outputs", 0)
        params.type_k = params.type_v = KV_TYPES[asked.get("kv", "f16")]
        params.flash_attn_type = asked.get("flash", -1)
        params.swa_full = False
        if target is not None:
            params.ctx_type, params.ctx_other = lib.LLAMA_CONTEXT_TYPE_MTP, target
        self.lines.clear()
        context = lib.llama_init_from_model(model, params)
        if not context:
            raise RuntimeError("\n".join(self.lines[-5:]))
        return context, parse(self.lines)

    def contexts(self, path: str, drafter: str | None, case: dict[str, Any]) -> dict[str, Any]:
        model = self.model(path, case.get("gpu_layers", -1))
        context, found = self.context(model, case)
        answer = {"target": found}
        if drafter:
            second = self.model(drafter)
            other, answer["drafter"] = self.context(second, case | case.get("draft", {}), context)
            self.lib.llama_free(other)
            self.lib.llama_model_free(second)
        self.lib.llama_free(context)
        self.lib.llama_model_free(model)
        return answer


def main() -> None:
    runtime = Runtime()
    for line in sys.stdin:
        case = json.loads(line)
        try:
            if case.pop("kind") == "weights":
                answer = runtime.weights(**case)
            else:
                answer = runtime.contexts(case.pop("path"), case.pop("drafter", None), case)
        except RuntimeError as error:
            answer = {"error": str(error), "log": runtime.lines[-30:]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
