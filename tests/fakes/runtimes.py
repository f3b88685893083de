"""vLLM, SGLang, mlx-vlm and LiteRT-LM as far as their adapters can tell: the same flags, endpoints, counters, log lines
and ways to fail, with words in place of a model.

    python runtimes.py NAME ARGUMENT...

Its faults come from FAULTS in the environment, separated by commas. Replies and log lines are those that the real
servers gave (vLLM 0.32.0, mlx-vlm 0.7.10, LiteRT-LM 0.18.1), or that their source has (SGLang 0.5.23).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = set(filter(None, os.environ.get("FAULTS", "").split(",")))
WORDS = [f"word{place} " for place in range(4096)]
PACE_S = 0.002
START_S = 0.2


class Server:
    """What the command line asked for, and what was counted since."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self.flags: dict[str, str] = {}
        for place, word in enumerate(argv):
            if word.startswith("--"):
                value = argv[place + 1] if place + 1 < len(argv) and not argv[place + 1].startswith("--") else ""
                self.flags[word] = value
        self.lock = threading.Lock()
        self.predicted = self.drafted = self.accepted = self.rounds = 0
        self.dead = False
        self.steps, self.context, self.model = self._settings(argv)

    def _settings(self, argv: list[str]) -> tuple[int, int, str]:
        flags = self.flags
        if self.name == "vllm":
            config = json.loads(flags.get("--speculative-config", "{}"))
            return config.get("num_speculative_tokens", 0), int(flags["--max-model-len"]), flags["--served-model-name"]
        if self.name == "sglang":
            steps = int(flags.get("--speculative-num-steps", "0"))
            return steps, int(flags["--context-length"]), flags["--served-model-name"]
        if self.name == "mlx":
            return max(0, int(flags.get("--draft-block-size", "1")) - 1), 4096, flags["--model"]
        told = json.loads(Path(flags["--config"]).read_text(encoding="utf-8"))["default"]
        return 3 * told["speculative_decoding"], told["max_num_tokens"], ""

    def count(self, words: int) -> tuple[int, int]:
        """Count an answer; its drafted and accepted tokens. Every second draft is right."""
        steps = 0 if "plain" in FAULTS else self.steps
        rounds = -(-words // 2) if steps else 0
        drafted, accepted = rounds * steps, 0 if "zero" in FAULTS else min(words // 2, rounds * steps)
        with self.lock:
            self.predicted += words
            self.rounds += rounds
            self.drafted += drafted
            self.accepted += accepted
        return drafted, accepted


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    @property
    def fake(self) -> Server:
        return self.server.fake

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        fake = self.fake
        if self.path == "/health" and fake.name != "litert":
            self.answer(503 if fake.dead else 200, {} if fake.name == "mlx" else None)
        elif self.path == "/v1/models":
            root = fake.flags.get("--model-path", sys.argv[3] if fake.name == "vllm" else fake.model)
            card = {"id": fake.model, "owned_by": fake.name, "root": root, "max_model_len": fake.context}
            data = [] if fake.name == "litert" else [card]
            self.answer(200, {"object": "list", "data": data})
        elif self.path == "/metrics" and "no-metrics" not in FAULTS and fake.name != "litert":
            self.text(200, metrics(fake))
        elif self.path == "/version" and fake.name == "vllm":
            self.answer(200, {"version": os.environ.get("FAKE_VERSION", "0.32.0")})
        elif self.path == "/server_info" and fake.name == "sglang":
            mean = 1 + fake.accepted / fake.rounds if fake.rounds else 0
            algorithm = fake.flags.get("--speculative-algorithm")
            told = {"internal_states": [{"avg_spec_accept_length": mean}], "speculative_algorithm": algorithm}
            self.answer(200, told)
        else:
            self.text(404, "<html>not found</html>")

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            messages = body["messages"]
            prompt = sum(len(str(each["content"]).split()) for each in messages)
            sound = all(isinstance(each["content"], str) for each in messages)
            sound &= isinstance(body.get("max_tokens"), int | None)
            sound &= isinstance(body.get("temperature"), int | float | None)
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            self.answer(400, {"error": {"message": "Input should be valid", "type": "BadRequestError", "code": 400}})
            return
        if self.path != "/v1/chat/completions":
            self.text(404, "<html>not found</html>")
        elif "dies-silently" in FAULTS:
            os._exit(0)
        elif "dies-first" in FAULTS:
            self.die()
        elif "hangs" in FAULTS:
            time.sleep(600)
        elif prompt >= self.fake.context:
            self.answer(
                400,
                {
                    "error": {
                        "message": f"maximum context length is {self.fake.context}",
                        "code": 400,
                        "type": "BadRequestError",
                    }
                },
            )
        elif self.fake.name == "mlx" and body["model"] != self.fake.model:
            self.answer(400, {"error": {"message": "the model cannot be loaded", "type": "BadRequestError"}})
        else:
            self.chat(body, prompt)

    def die(self) -> None:
        """As vLLM whose drafter has another width: an error, 503 for a moment, and an end with code 0."""
        print(
            "RuntimeError: Worker failed with error 'The expanded size of the tensor (256) must match the existing "
            "size (192) at non-singleton dimension 1.', please check the stack trace above\nEngineDeadError",
            file=sys.stderr,
            flush=True,
        )
        self.fake.dead = True
        self.answer(500, {"error": {"message": "EngineCore encountered an issue.", "code": 500}})
        threading.Timer(0.3, lambda: os._exit(0)).start()

    def chat(self, body: dict[str, Any], prompt: int) -> None:
        litert = self.fake.name == "litert"  # which knows neither the older name of the limit nor stop strings
        most = body.get("max_completion_tokens" if litert else "max_tokens") or self.fake.context - prompt
        words, text, reason = [], "", "length"
        for word in WORDS[: min(most, self.fake.context - prompt)]:
            marks = [mark for mark in body.get("stop") or () if mark in text + word and not litert]
            if marks:
                rest = (text + word).partition(marks[0])[0][len(text) :]
                words, reason = [*words, rest], "stop"
                break
            words.append(word)
            text += word
        if body.get("stream"):
            self.stream(body, words, reason, prompt)
            return
        for _ in words:
            time.sleep(PACE_S)
        self.answer(200, self.reply("chat.completion", [self.choice("message", "".join(words), reason)], words, prompt))

    def stream(self, body: dict[str, Any], words: list[str], reason: str, prompt: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for place, word in enumerate(words):
                time.sleep(PACE_S)
                if {"mid-stream", "mid-stream-0"} & FAULTS and place == 30:
                    print("RuntimeError: CUDA error: an illegal memory access was encountered", file=sys.stderr)
                    sys.stderr.flush()
                    os._exit(0 if "mid-stream-0" in FAULTS else 1)
                self.event({"object": "chat.completion.chunk", "choices": [self.choice("delta", word, None)]})
            self.event({"object": "chat.completion.chunk", "choices": [self.choice("delta", "", reason)]})
            if (body.get("stream_options") or {}).get("include_usage"):
                self.event(self.reply("chat.completion.chunk", [], words, prompt, body))
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            return

    def event(self, document: dict[str, Any]) -> None:
        whole = {"id": "chat-1", "created": 0, "model": self.fake.model, **document}
        self.wfile.write(f"data: {json.dumps(whole)}\n\n".encode())
        self.wfile.flush()

    def choice(self, where: str, text: str, reason: str | None) -> dict[str, Any]:
        return {"index": 0, where: {"role": "assistant", "content": text}, "finish_reason": reason}

    def reply(
        self, kind: str, choices: list[Any], words: list[str], prompt: int, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        fake = self.fake
        drafted, accepted = fake.count(len(words))
        found: dict[str, Any] = {
            "id": "chat-1",
            "object": kind,
            "created": 0,
            "model": fake.model,
            "choices": choices,
            "usage": {"prompt_tokens": prompt, "completion_tokens": len(words)},
        }
        if fake.name == "vllm":
            told = {"num_draft_tokens": drafted, "num_accepted_draft_tokens": accepted, "num_spec_tokens": fake.steps}
            asked = "--per-request-spec-decode-metrics" in fake.flags and fake.steps
            found["metrics"] = {"speculative_decoding": told} if asked else None
        elif fake.name == "sglang" and (body or {}).get("return_spec_tokens_details") and "no-counts" not in FAULTS:
            told = {"spec_num_proposed_drafts": drafted, "spec_num_correct_drafts": accepted}
            found["sglext"] = {"spec_tokens_details": told}
        elif fake.name == "mlx":
            drafts = bool(fake.steps) and "plain" not in FAULTS
            found["timings"] = {
                "predicted_per_second": 1 / PACE_S,
                "draft_n": drafted if drafts else None,
                "draft_n_accepted": accepted if drafts else None,
            }
        return found

    def answer(self, status: int, document: Any) -> None:
        self.text(status, "" if document is None else json.dumps(document), "application/json")

    def text(self, status: int, text: str, kind: str = "text/plain") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def metrics(fake: Server) -> str:
    """The page of counters, as each server has it."""
    if fake.name == "mlx":
        return json.dumps({"requests": 1})
    if fake.name == "sglang":
        lines = [f'sglang:generation_tokens_total{{model_name="{fake.model}"}} {fake.predicted}.0']
        if fake.steps:
            lines += [f"sglang:spec_verify_calls_total {fake.rounds}.0", f"sglang:spec_num_steps {fake.steps}.0"]
        return "\n".join(lines) + "\n"
    label = f'engine="0",model_name="{fake.model}"'
    lines = [f"vllm:generation_tokens_total{{{label}}} {fake.predicted}.0"]
    if fake.steps and "old-metrics" not in FAULTS:
        counts = {"num_drafts": fake.rounds, "num_draft_tokens": fake.drafted, "num_accepted_tokens": fake.accepted}
        lines += [f"vllm:spec_decode_{name}_total{{{label}}} {count}.0" for name, count in counts.items()]
        each = 'vllm:spec_decode_num_accepted_tokens_per_pos_total{%s,position="%d"} %d.0'
        lines += [each % (label, place, fake.accepted if place == 0 else 0) for place in range(fake.steps)]
    return "\n".join(lines) + "\n"


def benchmark(argv: list[str]) -> None:
    """As `litert-lm benchmark`, which ends with 0 whatever happens."""
    drafting = argv[argv.index("--speculative-decoding") + 1] == "true"
    if "no-drafter" in FAULTS and drafting:
        print("Traceback (most recent call last):\nRuntimeError: the model has no drafter")
        return
    slow = drafting and "slow-drafter" in FAULTS
    speed = 20.0 if slow else 50.0 if drafting else 30.0
    print("----- Results -----\nPrefill speed:        812.31 tokens/s")
    print(f"Decode speed:         {speed:.2f} tokens/s\nInit time:            0.4121 s")
    if drafting:
        print("MTP Drafter - Success rate: 0.558642")


def workers(count: int) -> None:
    """Children that hold the memory, do not listen to SIGTERM, and do not end with their parent."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    for _ in range(count):
        subprocess.Popen([sys.executable, "-c", code])


def fail_at_start() -> None:
    """The ways to end before anything is served."""
    said = {
        "full": "WARNING 11-23 21:18:59 [system_utils.py:255] Found ulimit of 20000. This can cause fd limit errors "
        "like `OSError: [Errno 24] Too many open files`.\nValueError: Available memory on node 0 (16.4/20.21 GiB) on "
        "startup is less than desired CPU memory utilization (0.92, 18.6 GiB).",
        "oom": "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
        "oom-sglang": "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        "oom-mlx": "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command "
        "buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
        "oom-torch": "RuntimeError: [enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)",
        "missing": "pydantic_core ValidationError: Invalid repository ID or local directory specified: 'x'.",
        "ordinary": "AssertionError: All drafting layers should belong to the same kv cache group",
        "sigill": "Worker proc VllmWorker-0 died unexpectedly (exit code: -4), shutting down executor.",
        "taken": "OSError: [Errno 98] error while attempting to bind on address: address already in use",
        "flag": "vllm: error: unrecognized arguments: --no-such-flag",
    }
    for fault, line in said.items():
        if fault in FAULTS:
            print(line, file=sys.stderr, flush=True)
            sys.exit(1)


def main() -> None:
    name, *argv = sys.argv[1:]
    if argv[:1] == ["benchmark"]:
        benchmark(argv)
        return
    fail_at_start()
    if "workers" in FAULTS:
        workers(2)
    if "deaf" in FAULTS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fake = Server(name, argv)
    if fake.name == "mlx" and "plain" in FAULTS:
        print("Speculative drafter is incompatible with the target model; falling back to autoregressive generation")
    sys.stdout.flush()
    time.sleep(60 if "slow-start" in FAULTS else START_S)
    server = ThreadingHTTPServer((fake.flags["--host"], int(fake.flags["--port"])), Handler)
    server.daemon_threads = True
    server.fake = fake  # type: ignore[attr-defined]
    server.serve_forever()


if __name__ == "__main__":
    main()
