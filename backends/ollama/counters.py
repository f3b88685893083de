"""What a loaded model counted and what it takes, from the server's log and its processes."""

from __future__ import annotations

from backends.base import Stats
from backends.ollama import log
from backends.ollama.address import Address

PROGRAMS = ("llama-server", "llama-server.exe", "ollama", "ollama.exe")


def stats(where: Address, target: str) -> Stats:
    """Counters since the child on this target was started.

    Args:
        target: digest of its weights.
    """
    found = log.find(where)
    run = log.last_run(found.tail(), target) if found else None
    memory = (log.memory_bytes(run) if run else None) or (process_bytes(target) if where.local else None)
    if run is None:
        return Stats(predicted_tokens=0, memory_bytes=memory, unknown=_why(where, known=found is not None))
    said = log.counted(run)
    return Stats(
        predicted_tokens=said.tokens,
        predicted_per_second=said.tokens / said.ms * 1e3 if said.ms else None,
        drafted=said.drafted,
        accepted=said.accepted,
        accepted_per_position=said.positions,
        drafter_active=said.drafted > 0,
        memory_bytes=memory,
    )


def _why(where: Address, *, known: bool) -> str:
    if not where.local:
        return f"Ollama's log is on {where.host}"
    return "the log does not tell this model's requests from others'" if known else "Ollama's log cannot be read"


def process_bytes(target: str) -> int | None:
    """Main memory of the children that run this target; None where there are none to be seen. What is on a GPU is not
    in it."""
    import psutil  # noqa: PLC0415

    blob = target.replace(":", "-")
    found = [
        process.info["memory_info"].rss
        for process in psutil.process_iter(["name", "cmdline", "memory_info"])
        if process.info["name"] in PROGRAMS
        and process.info["memory_info"]
        and any(blob in word for word in process.info["cmdline"] or ())
    ]
    return sum(found) or None
