"""`advisor.launch/1`: what was started and what it showed, or what would be."""

from __future__ import annotations

from typing import Any

from advisor.running.order import ADAPTS, Setup
from advisor.running.sessions import Session
from advisor.running.starting import Proof
from backends.base import LaunchPlan, Options


def document(setup: Setup, session: Session, proof: Proof) -> dict[str, Any]:
    """`advisor.launch/1`."""
    return {
        "schema": "advisor.launch/1",
        "base_url": session.base_url,
        "model": session.model,
        "backend": session.backend,
        "pid": session.pid,
        "name": session.name,
        "log": session.log or None,
        "context_tokens": session.context_tokens,
        "detached": session.detached,
        "drafter": {
            "enabled": session.drafter,
            "active": proof.active,
            "draft_tokens": draft_tokens(session.draft_tokens),
            "drafted": proof.drafted,
            "accepted": proof.accepted,
            "acceptance": proof.acceptance,
            "tokens_per_step": proof.tokens_per_step,
            "reason": proof.reason or setup.drafter_reason,
            "drawback": proof.drawback or None,
        },
        "measured": {"decode_tokens_per_s": proof.tokens_per_s, "process_bytes": proof.memory_bytes},
        "expected": {"decode_tokens_per_s": setup.expected_tokens_per_s, "total_bytes": setup.expected_bytes},
    }


def draft_tokens(number: int) -> int | str:
    """A number, or `auto` where the backend adapts it."""
    return "auto" if number == ADAPTS else number


def planned(setup: Setup, plan: LaunchPlan) -> dict[str, Any]:
    """`advisor.launch/1` of what was not started."""
    model = plan.model
    return {
        "schema": "advisor.launch/1",
        "base_url": _base_url(plan.options),
        "model": model.name,
        "backend": plan.backend,
        "pid": None,
        "name": None,
        "log": None,
        "context_tokens": model.context_tokens,
        "detached": plan.options.detached,
        "drafter": {
            "enabled": model.drafts,
            "draft_tokens": draft_tokens(model.draft_tokens),
            "reason": setup.drafter_reason,
        },
        "expected": {"decode_tokens_per_s": setup.expected_tokens_per_s, "total_bytes": setup.expected_bytes},
        "plan": {
            "files": files(setup),
            "argv": plan.argv,
            "environment": plan.environment,
            "requests": plan.requests,
            "command": plan.command,
            "hosts": plan.hosts,
            "notes": setup.notes,
        },
    }


def _base_url(options: Options) -> str:
    return f"{options.server or f'http://{options.host}:{options.port}'}/v1"


def files(setup: Setup) -> list[dict[str, Any]]:
    """Each file with where it is; of the catalogue also what is to be fetched."""
    model = setup.model
    if setup.options.server:
        return []
    if setup.repositories and not setup.files:
        return [
            {"role": one.role, "repo": one.repo, "file": one.file or None, "bytes": one.size, "source": one.source}
            for one in setup.repositories
        ]
    if not setup.files:
        roles = (("target", model.target), ("drafter", model.drafter), ("projector", model.projector))
        return [{"role": role, "path": str(path), "here": path.exists()} for role, path in roles if path is not None]
    return [
        {
            "role": file.role,
            "repo": file.repo,
            "file": file.file,
            "bytes": file.size,
            "sha256": file.sha256 or None,
            "path": str(file.path),
            "here": file.here,
            "source": file.source,
        }
        for file in setup.files
    ]
