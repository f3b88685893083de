"""What a request may say, and what is refused: what this engine cannot do is an error, never quietly left out."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec

from advisor.errors import UsageError
from backends.native.messages import NAME
from backends.native.sampling import Sampling
from backends.native.target import MAX_DRAFT
from backends.native.text import Form
from backends.native.tools import CALL_BEGIN

MOST_STOPS = 16
LONGEST_STOP = 1000
NO_THOUGHT = ("none", "minimal")
"""Of `reasoning_effort`; every other one is a yes, because Gemma's thinking is on or off."""
SEEDS = 1 << 63

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Body(msgspec.Struct, kw_only=True):
    """A request; fields of OpenAI's that are not here change nothing about an answer and are ignored."""

    messages: list[dict[str, Any]] | None = None
    prompt: str | list[str] | None = None
    model: str | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None

    temperature: float | None = None
    top_p: Share | None = None
    top_k: int | None = None
    min_p: Share | None = None
    repeat_penalty: float | None = None
    """llama-server's name; also `repetition_penalty`."""
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None

    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    draft_tokens: int | Literal["auto"] | None = None
    """Ours: tokens drafted per round in this request, 0 for plain decoding, `auto` for as many as pay."""
    cache_prompt: bool | None = None
    """llama-server's: false reads the whole prompt again."""
    timings_per_token: bool | None = None
    """llama-server's: each piece of a stream says what was counted so far."""

    def check(self, *, chat: bool) -> None:
        """Raises UsageError for what this engine does not do."""
        if self.n not in (None, 1) or self.best_of not in (None, 1):
            raise UsageError(f"n is {self.n or self.best_of}; one answer per request")
        for name, asked in (
            ("logprobs", self.logprobs or self.top_logprobs),
            ("echo", self.echo),
            ("suffix", self.suffix),
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
            ("functions", self.functions),
        ):
            if asked:
                raise UsageError(f"{name} is not supported by this engine")
        if (self.response_format or {}).get("type", "text") != "text":
            raise UsageError("response_format must be text: this engine cannot force a format")
        if self.modalities not in (None, ["text"]):
            raise UsageError('modalities must be ["text"]')
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"max_tokens is {self.limit}, not at least 1")
        if isinstance(self.draft_tokens, int) and not 0 <= self.draft_tokens <= MAX_DRAFT:
            raise UsageError(f"draft_tokens is {self.draft_tokens}, not between 0 and {MAX_DRAFT}")
        if len(self.stops) > MOST_STOPS or any(len(stop) > LONGEST_STOP for stop in self.stops):
            raise UsageError(f"stop holds more than {MOST_STOPS} texts, or one of more than {LONGEST_STOP} characters")
        if chat and self.messages is None:
            raise UsageError("messages is missing")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def usage(self) -> bool:
        """Whether a stream ends with a chunk of usage alone."""
        return bool((self.stream_options or {}).get("include_usage"))

    def text(self) -> str:
        """The one prompt of a plain completion."""
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt or []
        if len(texts) != 1:
            raise UsageError("prompt must be one text")
        return texts[0]

    def thinking(self, default: bool) -> bool:
        """Whether the model is to think first."""
        asked = (self.chat_template_kwargs or {}).get("enable_thinking")
        if asked is not None:
            if not isinstance(asked, bool):
                raise UsageError("chat_template_kwargs.enable_thinking is neither true nor false")
            return asked
        return default if self.reasoning_effort is None else self.reasoning_effort not in NO_THOUGHT

    @property
    def may_call(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    def form(self, *, chat: bool) -> Form:
        """What to look for in the answer.

        Raises:
            UsageError: `tool_choice` says something unknown.
        """
        return Form(
            stops=self.stops,
            thoughts=chat,
            calls=chat and self.may_call,
            one_call=self.parallel_tool_calls is False,
            begun=self._begun() if chat else "",
        )

    def _begun(self) -> str:
        """How an answer begins that must be a call: the model cannot but go on with it."""
        choice = self.tool_choice
        if choice in (None, "auto", "none"):
            return ""
        if not self.tools:
            raise UsageError("tool_choice asks for a call, but there are no tools")
        if choice == "required":
            return f"{CALL_BEGIN}call:"
        function = choice.get("function") if isinstance(choice, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        known = [tool["function"].get("name") for tool in self.tools if isinstance(tool.get("function"), dict)]
        if not isinstance(name, str) or not NAME.fullmatch(name) or name not in known:
            raise UsageError("tool_choice must be none, auto, required, or name one of the tools")
        return f"{CALL_BEGIN}call:{name}{{"

    def sampling(self, vocabulary: int) -> Sampling:
        """How tokens are chosen; where nothing is said, the most likely one.

        Raises:
            UsageError: a setting makes no sense.
        """
        plain = Sampling()
        penalty = self.repeat_penalty if self.repetition_penalty is None else self.repetition_penalty
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": penalty,
            "penalty_window": self.repeat_last_n,
            "seed": None if self.seed is None else self.seed % SEEDS,
        }
        asked = plain._replace(**{name: value for name, value in given.items() if value is not None})
        asked = asked._replace(logit_bias=self._bias())
        asked.check(vocabulary)
        return asked

    def _bias(self) -> tuple[tuple[int, float], ...]:
        """OpenAI's bias: token numbers as text; -100 and less forbids."""
        pairs: list[tuple[int, float]] = []
        for token, bias in (self.logit_bias or {}).items():
            if not token.isdecimal() or not token.isascii():
                raise UsageError(f"logit_bias names {token[:32]!r}, which is no token's number")
            pairs.append((int(token[:18]), -math.inf if bias <= -100 else bias))  # noqa: PLR2004 - OpenAI's "never"
        return tuple(pairs)
