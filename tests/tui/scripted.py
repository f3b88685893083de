"""A backend that answers what it was told to, with servers that are no process: its pictures never change."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from advisor.errors import AdvisorError
from advisor.files.store import File
from advisor.machine import Availability
from advisor.running.client import Client, Done, Text, Timings
from advisor.running.order import Order, Repository, Setup
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Options, Progress, Stats, Watch

GIB = 1 << 30
ANSWER = """Take the **12B** in its 4-bit file:

- it needs about 9.3 GB at 32K tokens of context
- its drafter adds 254 MB, and pays

```python
from advisor import recommend

print(recommend().pick.name)
```

Start it with `advisor launch 12b`."""
POSITIONS = (0.86, 0.71, 0.55)


def timings(tokens: int, rate: float = 41.0, drafts: int | None = None) -> Timings:
    """As a server counts that drafts three tokens a round."""
    drafted = 0 if drafts == 0 else tokens
    return Timings(
        prompt_n=24,
        prompt_per_second=310.0,
        predicted_n=tokens,
        predicted_per_second=rate,
        draft_n=drafted,
        draft_n_accepted=int(drafted * 0.7),
        accepted_per_position=POSITIONS if drafted else (),
        draft_lengths=(1, 0, 2, 9) if drafted else (12,),
    )


class Scripted(Backend):
    """Starts at once. `fails`: what each stage raises, once."""

    name = "llama.cpp"
    drafts_per_request = True

    def __init__(self, **fails: AdvisorError) -> None:
        self.fails = fails
        self.running: set[str] = set()
        self.asked: list[dict[str, Any]] = []
        self.pause_s = 0.0
        self.load_s = 0.0

    def detect(self) -> Availability:
        return Availability(name=self.name, available=True, version="b10605", drafter=True, build="CUDA")

    def plan(self, model: Model, options: Options) -> LaunchPlan:
        return LaunchPlan(backend=self.name, model=model, options=options, argv=("server",), command="server")

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        endpoint = Endpoint(
            base_url=f"http://127.0.0.1:{plan.options.port}/v1",
            model=plan.model.name,
            backend=self.name,
            pid=os.getpid(),
            name=plan.model.name,
            drafter=plan.model.drafter is not None,
        )
        watch.spawned(endpoint)
        self.running.add(endpoint.base_url)
        until = time.monotonic() + self.load_s
        while time.monotonic() < until and endpoint.base_url in self.running:
            watch.progress("loading", 5 * GIB, 14 * GIB)
            time.sleep(0.01)
        self.fail("start", endpoint)
        return endpoint

    def fail(self, stage: str, endpoint: Endpoint) -> None:
        if stage in self.fails:
            self.running.discard(endpoint.base_url)
            raise self.fails.pop(stage)

    def client(self, endpoint: Endpoint) -> Client:
        return Script(self, endpoint)

    def gone(self, endpoint: Endpoint) -> bool:
        return endpoint.base_url not in self.running

    def stats(self, endpoint: Endpoint) -> Stats:
        return Stats(
            predicted_tokens=640,
            predicted_per_second=41.0,
            drafted=900,
            accepted=640,
            accepted_per_position=POSITIONS,
            drafter_active=True,
            memory_bytes=int(14.1 * GIB),
        )

    def stop(self, endpoint: Endpoint) -> None:
        self.running.discard(endpoint.base_url)


class Script(Client):
    """Answers word by word."""

    def __init__(self, backend: Scripted, endpoint: Endpoint) -> None:
        super().__init__(endpoint.base_url, endpoint.model)
        self.backend, self.endpoint = backend, endpoint

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Iterator[Text | Done]:
        self.backend.asked.append({"messages": list(messages), **options})
        self.backend.fail("chat", self.endpoint)
        yield Text(text="They want to know what fits.", thought=True)
        words = ANSWER.split(" ")[: options.get("max_tokens", 1000)]
        drafts = options.get("draft_tokens")
        for place, word in enumerate(words, start=1):
            if self.backend.pause_s:
                time.sleep(self.backend.pause_s)
            yield Text(text=word + " ", timings=timings(place, drafts=drafts))
        self.backend.fail("answer", self.endpoint)
        yield Done(reason="stop", timings=timings(len(words), drafts=drafts))


def files(order: Order) -> tuple[File, ...]:
    """A model that is still to be fetched, with a drafter that is here."""
    return (
        File(role="target", repo="unsloth/gemma-4", file="gemma-4-26B-A4B.gguf", size=14_200_000_000,
             path=Path("/models/26b.gguf"), source="download", sha256="0" * 64),
        File(role="drafter", repo="unsloth/gemma-4", file="mtp-gemma-4-26B-A4B.gguf", size=252_000_000,
             path=Path("/models/mtp.gguf"), source="Hugging Face cache"),
    )  # fmt: skip


def configure(order: Order) -> Setup:
    """As ordered, without asking anybody."""
    drafting = order.use_drafter
    return Setup(
        backend="llama.cpp",
        model=Model(
            name=order.model or "26b",
            target=Path("/models/26b.gguf"),
            drafter=Path("/models/mtp.gguf") if drafting else None,
            draft_tokens=3 if drafting else 0,
            context_tokens=order.context or 8192,
        ),
        options=Options(detached=order.detached),
        drafter_reason="drafting three tokens at a time should give 1.6x the speed",
        files=files(order),
        expected_tokens_per_s=38.0,
        expected_bytes=int(14.6 * GIB),
        order=order,
    )


def outline(order: Order) -> Setup:
    """As a runtime that reads checkpoints has it before anything is listed."""
    setup = configure(order)
    repositories = (
        Repository(role="target", repo="google/gemma-4-31B-it", file="", size=62_500_000_000, source="scripted"),
        Repository(
            role="drafter", repo="google/gemma-4-31B-it-assistant", file="", size=949_000_000, source="scripted"
        ),
    )
    own = order.backend or "llama.cpp"
    return msgspec.structs.replace(setup, backend=own, files=(), repositories=repositories, licence="Apache-2.0")


def fetch(setup: Setup, progress: Progress) -> None:
    """All of it, in two steps."""
    file = setup.files[0]
    for done in (file.size // 3, file.size):
        progress(Path(file.file).name, done, file.size)
