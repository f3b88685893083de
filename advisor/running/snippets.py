"""An endpoint in the words of those who talk to it: what to paste into a shell, a program, an agent's settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from advisor.running.client import KEY

if TYPE_CHECKING:
    from advisor.running.sessions import Session

ANY = "any"
"""A key, for clients that insist on one where the server asks for none."""


class Snippet(NamedTuple):
    """`name`: who takes it."""

    name: str
    text: str


def snippets(session: Session) -> tuple[Snippet, ...]:
    """For curl, openai's package, the environment and two agents. A key stays in the environment, never in the text."""
    return (
        Snippet("curl", curl(session)),
        Snippet("Python, openai", python(session)),
        Snippet("Environment", environment(session)),
        Snippet("opencode.json", opencode(session)),
        Snippet("aider", aider(session)),
    )


def curl(session: Session) -> str:
    """A question from the shell, its answer streamed."""
    body = json.dumps(
        {"model": session.model, "messages": [{"role": "user", "content": "Which model fits 16 GB?"}], "stream": True}
    )
    key = [f'-H "Authorization: Bearer ${KEY}"'] if session.api_key else []
    words = [
        f"curl -N {session.base_url}/chat/completions",
        '-H "Content-Type: application/json"',
        *key,
        f"-d '{body}'",
    ]
    return " \\\n  ".join(words)


def python(session: Session) -> str:
    """The same with the `openai` package."""
    key = f'os.environ["{KEY}"]' if session.api_key else f'"{ANY}"'
    first = "import os\n\n" if session.api_key else ""
    return f"""{first}from openai import OpenAI

client = OpenAI(base_url="{session.base_url}", api_key={key})
reply = client.chat.completions.create(
    model="{session.model}",
    messages=[{{"role": "user", "content": "Which model fits 16 GB?"}}],
)
print(reply.choices[0].message.content)"""


def environment(session: Session) -> str:
    """For everything that reads OpenAI's variables."""
    key = f"${KEY}" if session.api_key else ANY
    return f"export OPENAI_BASE_URL={session.base_url}\nexport OPENAI_API_KEY={key}"


def opencode(session: Session) -> str:
    """A provider for opencode's settings."""
    options = {"baseURL": session.base_url} | ({"apiKey": f"{{env:{KEY}}}"} if session.api_key else {})
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "advisor",
        "options": options,
        "models": {session.model: {"limit": {"context": session.context_tokens, "output": session.context_tokens}}},
    }
    return json.dumps({"$schema": "https://opencode.ai/config.json", "provider": {"advisor": provider}}, indent=2)


def aider(session: Session) -> str:
    """For aider, on its command line."""
    key = f'"${KEY}"' if session.api_key else ANY
    return f"aider --openai-api-base {session.base_url} --openai-api-key {key} --model openai/{session.model}"
