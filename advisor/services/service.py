"""What to serve many users with, as records: what it holds, and what each of so many users gets."""

from __future__ import annotations

from advisor.machine import Basis, Record


class Load(Record, frozen=True, kw_only=True):
    """So many users at once. Tokens per second of all together, with the drafter where there is one; `each`: of one of
    them; `plain`: of all, without. `low`, `high`: of `tokens_per_s`. `drafter_gain` below 1: better without."""

    users: int
    tokens_per_s: float
    low: float
    high: float
    each: float
    plain_tokens_per_s: float
    drafter_gain: float


class Service(Record, frozen=True, kw_only=True):
    """What to serve many users with. `backend_available`: whether it is installed. `quant`: the checkpoint, or the
    pick's file. `gpus`: indexes of those that one server uses; `copies`: such servers that this machine has GPUs for.
    `sequences`: conversations that the cache holds, each with the whole context; `users`: of one server, as many as get
    the use case's speed. `drafter_pays_up_to`: users, 0 where it never does."""

    backend: str
    backend_available: bool
    model: str
    name: str
    quant: str
    repo: str
    drafter: str
    draft_tokens: int
    drafter_pays_up_to: int
    gpus: tuple[int, ...]
    copies: int
    context_tokens: int
    depth_tokens: int
    weights_bytes: int
    cache_bytes: int
    cache_bytes_per_sequence: int
    sequences: int
    users: int
    loads: tuple[Load, ...]
    basis: dict[str, Basis]
    reasons: tuple[str, ...]
    command: str
