"""What the tests' Ollama says: the texts that were recorded, and words of its own for any other prompt."""

from __future__ import annotations

import itertools
import json
from functools import cache
from typing import Any

from tests.fakes.ollama_files import RECORDINGS

REPEATS = 30
"""So often may one token follow itself; then the server gives up."""


def way(options: dict[str, Any], body: dict[str, Any]) -> str:
    """What changes an answer beside its prompt."""
    way = f"{options['temperature']}/{options.get('seed')}" if options.get("temperature") else "greedy"
    return "/".join([way, str(body.get("format") or ""), "quiet" if body.get("think") is False else ""])


Recorded = tuple[list[str | None] | None, int, dict[int, list[dict[str, Any]]], str]
"""Pieces (None for one that was cut from the recording), tokens of the prompt, log probabilities by how many
alternatives there are, and how it ends."""


def recorded(kind: str, prompt: str, way: str) -> Recorded:
    return _table().get((kind, prompt, way), (None, 0, {}, ""))


@cache
def _table() -> dict[tuple[str, str, str], Recorded]:
    """Recorded answers by kind (`raw` or `chat`), prompt and way: pieces, tokens of the prompt, log probabilities, and
    how they end."""
    found: dict[tuple[str, str, str], Recorded] = {}
    exchanges = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDINGS.glob("*.json"))]
    # Streams come first: they tell the pieces.
    for exchange in sorted(exchanges, key=lambda each: "stream" not in (each.get("response") or {})):
        request, reply = exchange.get("request") or {}, exchange.get("response") or {}
        body = request.get("body")
        if reply.get("status") != 200 or not isinstance(body, dict) or request["path"] not in KINDS:
            continue
        kind = "raw" if body.get("raw") else KINDS[request["path"]]
        prompt = body.get("prompt") or "".join(each["content"] for each in body.get("messages") or [])
        options = body.get("options") or {"temperature": body.get("temperature")}
        heard = _heard(reply)
        if not isinstance(prompt, str) or not prompt or heard is None:
            continue
        key = (kind, prompt, way(options, body))
        found[key] = _richer(found.get(key), heard)
    return found


KINDS = {
    "/api/generate": "chat", "/api/chat": "chat", "/v1/chat/completions": "chat", "/v1/completions": "chat",
}  # fmt: skip


def _heard(reply: dict[str, Any]) -> Recorded | None:
    """The answer in a recorded reply; None where it is none, or one that was broken off."""
    if "stream" in reply:
        pieces: list[str | None] = []
        last: dict[str, Any] = {}
        for item in reply["stream"]:
            if "truncated" in item:
                lines = int(item["truncated"].split()[0])
                pieces += [None] * (lines // 2 if '\\"object\\"' in json.dumps(reply["stream"]) else lines)
                continue
            line = item["line"].removeprefix("data:").strip()
            last = json.loads(line) if line.startswith("{") else last
            if line.startswith("{") and (piece := _piece(last)):
                pieces.append(piece)
        if "error" in last or reply.get("client_saw") or last.get("model") == "":
            return None
        done = last.get("done") or last.get("usage")
        return pieces, last.get("prompt_eval_count", 0), {}, "length" if done else ""
    said = json.loads(reply["body_text"])
    text = _piece(said)
    if not text:
        return None
    count = said.get("eval_count") or (said.get("usage") or {}).get("completion_tokens") or REPEATS + 4
    prompt = said.get("prompt_eval_count") or (said.get("usage") or {}).get("prompt_tokens") or 0
    natural = "length" if said.get("done") or said.get("usage") else ""
    told = said.get("logprobs", [])
    return list(_split(text, count)), prompt, {len(told[0]["top_logprobs"]): told} if told else {}, natural


def _piece(said: dict[str, Any]) -> str:
    if choices := said.get("choices"):
        first = choices[0]
        return str((first.get("delta") or first.get("message") or {}).get("content") or first.get("text") or "")
    return str((said.get("message") or said).get("content") or said.get("response") or "")


def _split(text: str, count: int) -> list[str]:
    """A text in that many pieces."""
    count = max(1, min(count, len(text)))
    edges = [len(text) * place // count for place in range(count + 1)]
    return [text[begin:end] for begin, end in itertools.pairwise(edges)]


def _richer(one: Recorded | None, other: Recorded) -> Recorded:
    """Two recordings of the same answer in one: the first's pieces as far as they go, then the other's rest."""
    if one is None:
        return other
    pieces, text = list(one[0] or []), "".join(piece or "" for piece in other[0] or [])
    if None in pieces:
        pieces = _filled(pieces, text)
    begin = "".join(piece or "" for piece in pieces)
    missing = len(other[0] or []) - len(pieces)
    if missing > 0 and text.startswith(begin):
        pieces += _split(text[len(begin) :], missing)
    logprobs = {count: max(one[2].get(count, []), other[2].get(count, []), key=len) for count in {*one[2], *other[2]}}
    return pieces, one[1] or other[1], logprobs, one[3] or other[3]


def _filled(pieces: list[str | None], text: str) -> list[str | None]:
    """Pieces with those that were cut, from the whole text."""
    first = pieces.index(None)
    count = pieces.count(None)
    begin, end = "".join(map(str, pieces[:first])), "".join(map(str, pieces[first + count :]))
    if None in pieces[first + count :] or not (text.startswith(begin) and text.endswith(end)):
        return pieces
    return [*pieces[:first], *_split(text[len(begin) : len(text) - len(end)], count), *pieces[first + count :]]


def own(prompt: str) -> list[str]:
    """An answer to what nobody recorded."""
    if "again and again" in prompt:
        return ["/"] * (REPEATS + 2)
    about = (prompt.split() or ["nothing"])[-1].strip("?.!")
    sentence = f"This is what a small model says about {about}: a drafter guesses, and its target looks. "
    return [f"{word} " for word in (sentence * 6).split()]
