"""Servers of somebody else's: where one answers, and which of its models is meant."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from advisor.errors import RuntimeFailed, UsageError
from advisor.knowledge.profile import Runtime
from advisor.machine import Record
from backends.installed import reaches

KEY_HINT = "give its key with --api-key, or in $ADVISOR_API_KEY"


class There(Record, frozen=True, kw_only=True):
    """A model of a server that runs already. `root`: the checkpoint, as the server was given it. `context_tokens`: 0
    where it does not tell."""

    name: str
    root: str
    context_tokens: int
    version: str = ""


def address(text: str) -> str:
    """A server's address as it is asked: `host:port` or a URL, with `/v1` at its end or without.

    Raises:
        UsageError: it is none.
    """
    url = text.strip().rstrip("/").removesuffix("/v1")
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or parts.scheme == "https")
    except ValueError:
        sound = False
    if not sound or re.search(r"\s", url):
        raise UsageError(f"{text!r} is no address of a server", hint="write it like 127.0.0.1:8000")
    return url


def look(runtime: Runtime, server: str, *names: str, key: str | None = None) -> There:
    """The model of a running server: the one of these names, or the only one.

    Args:
        names: what it may be called; its own name or its checkpoint's.

    Raises:
        UsageError: the address is none, or the server does not have the model, or has several.
        RuntimeFailed: it does not answer, or is something else, or too old.
    """
    url = address(server)
    models = _listed(url, key)
    owners = {str(each.get("owned_by", "")) for each in models}
    if models and runtime.id not in owners:
        raise RuntimeFailed(
            f"the server at {url} is not {runtime.name}: its models belong to {', '.join(sorted(owners))}"
        )
    ids = [str(each.get("id", "")) for each in models]
    chosen = [each for each in models if not names or {each.get("id"), each.get("root")} & set(names)]
    if len(chosen) != 1:
        which = f"has no model {names[0]!r}" if names and not chosen else f"has {len(chosen)} models that may be meant"
        raise UsageError(
            f"{runtime.name} at {url} {which}",
            hint=f"it has {', '.join(ids) or 'none'}",
        )
    told = chosen[0]
    version = _version(url, key)
    if not reaches(version, runtime.floor):
        raise RuntimeFailed(
            f"{runtime.name} {version} at {url} is too old for Gemma's drafter: {runtime.floor} is the first"
        )
    length = told.get("max_model_len")
    return There(
        name=str(told.get("id")),
        root=str(told.get("root") or told.get("id")),
        context_tokens=length if isinstance(length, int) else 0,
        version=version,
    )


def _version(url: str, key: str | None) -> str:
    """What the server calls its version; empty where it does not tell."""
    try:
        told = msgspec.json.decode(_got(url + "/version", key))
    except (msgspec.DecodeError, RuntimeFailed):
        return ""
    return str(told.get("version", "")) if isinstance(told, dict) else ""


def _listed(url: str, key: str | None) -> list[dict[str, Any]]:
    try:
        told = msgspec.json.decode(_got(f"{url}/v1/models", key))
        return [each for each in told["data"] if isinstance(each, dict)]
    except (msgspec.DecodeError, KeyError, TypeError):
        raise RuntimeFailed(f"what answers at {url} speaks no OpenAI API") from None


def _got(url: str, key: str | None) -> bytes:
    import httpx  # noqa: PLC0415

    from advisor.running.client import authorized  # noqa: PLC0415

    try:
        reply = httpx.get(url, timeout=5, trust_env=False, headers=authorized(key))
    except httpx.HTTPError as error:
        said = str(error) or type(error).__name__
        raise RuntimeFailed(f"no server answers at {url}: {said}", hint="--server is its address") from None
    if reply.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise RuntimeFailed(f"the server at {url} wants an API key", hint=KEY_HINT)
    if reply.is_error:
        raise RuntimeFailed(f"{url} answers {reply.status_code}")
    return reply.content
