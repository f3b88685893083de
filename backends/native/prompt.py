"""Prompts: messages through the model's own chat template, and text, into tokens.

The template comes out of a model file, so it is a stranger's program: it runs in jinja2's sandbox, on plain data.
And what a message says is a stranger's text: where it spells one of the tokens that give a conversation its form, as
`<|turn>`, it stays text, or a web page that is read out to the model could speak in the system's name.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from backends.native.decoder import Vocabulary
from backends.native.messages import conversation, definitions, folded


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now(datetime.UTC).strftime(form)


def _json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


PLAIN = "send plain text instead (--raw, or /v1/completions)"
SIMPLEST = ({"role": "user", "content": "hello"},)
"""What any template can render; one that cannot is broken, and the request is not to blame."""


BREAK = "\ufdd0"
"""Stands inside each spelling of a mark in what others wrote; Unicode promises that no text contains it."""


def breaking(marks: Sequence[str]) -> Callable[[Any], Any]:
    """What puts a `BREAK` after the first character of each of `marks`, in all texts of plain data."""
    spelled = "|".join(re.escape(mark) for mark in sorted(marks) if len(mark) > 1)
    # A mark may begin inside another: looking ahead finds both.
    first = re.compile(f"(?={spelled or '(?!)'})(.)", re.DOTALL)

    def broken(value: Any) -> Any:
        if isinstance(value, str):
            return first.sub(rf"\1{BREAK}", value.replace(BREAK, ""))
        if isinstance(value, dict):
            return {broken(key): broken(item) for key, item in value.items()}
        return [broken(item) for item in value] if isinstance(value, list) else value

    return broken


class Template:
    """A chat template.

    Args:
        text: the program, in Jinja2.
        names: what it may use beside the conversation: texts of the tokens that begin and end a text.
        marks: what nobody but the template may write: in all else there is a `BREAK` inside.

    Raises:
        RuntimeFailed: it is no template.
    """

    def __init__(self, text: str, names: Mapping[str, str], marks: Sequence[str] = ()) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals.update(raise_exception=_raise, strftime_now=_now)
        environment.filters["tojson"] = _json
        self.text = text
        self.calls = "tools" in text
        """Whether it knows tools."""
        self._folds = "tool_responses" in text and "tool_call_id" not in text
        self._names, self._broken = names, breaking(marks)
        try:
            self._program = environment.from_string(text)
        except jinja2.TemplateError as error:
            raise RuntimeFailed(f"the chat template cannot be used: {error}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        thinking: bool = False,
        tools: Sequence[Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation, ready for the model's turn.

        Args:
            messages: as OpenAI's clients send them.
            thinking: whether the model is to think first, where the template knows that.
            tools: definitions of functions, as OpenAI's.
            options: what else the template is told.

        Raises:
            UsageError: the messages or tools are wrong, or the template refuses them.
        """
        functions = definitions(tools)
        if functions and not self.calls:
            raise UsageError("this model's chat template knows no tools", hint="leave tools out")
        plain = conversation(messages)
        plain = folded(plain) if self._folds else plain
        try:
            told = self._broken({**(options or {}), "messages": plain, "tools": functions or None}) | self._names
            return self._program.render(told, add_generation_prompt=True, enable_thinking=thinking)
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"the model's chat template refuses these messages: {error}") from error
        except RecursionError:
            raise UsageError("the messages or tools are nested too deeply for the model's chat template") from None


class Prompt:
    """Makes prompts for one model."""

    def __init__(self, model: Vocabulary) -> None:
        self._model = model
        self._begin = model.special("bos")
        self.template: Template | None = None
        self._fault: AdvisorError = UsageError(f"{model.path.name} has no chat template", hint=PLAIN)
        text = model.chat_template()
        try:
            if text:
                names = {"bos_token": self._begin, "eos_token": model.special("eos")}
                template = Template(text, names, model.marks())
                template.render(SIMPLEST)
                self.template = template
        except AdvisorError as error:
            self._fault = RuntimeFailed(f"{model.path}: {error.message}", hint=PLAIN)

    def chat(self, messages: Sequence[Mapping[str, Any]], *, begun: str = "", **told: Any) -> list[int]:
        """Tokens of a conversation, ready for the model's turn; `told`: as `Template.render`.

        Args:
            begun: how that turn begins.

        Raises:
            UsageError: the file has no template, or as `Template.render`.
            RuntimeFailed: the file's template is broken.
        """
        if self.template is None:
            raise self._fault
        text = self.template.render(messages, **told) + begun
        written = bool(self._begin) and text.startswith(self._begin)
        # Read apart, the two halves of a broken mark are not seen as one.
        first, *rest = text.split(BREAK)
        tokens = self._model.tokenize(first, special=True, begin=not written)
        return tokens + [token for part in rest for token in self._model.tokenize(part, special=True, begin=False)]

    def plain(self, text: str) -> list[int]:
        """Tokens of `text` as it is, after the token that begins every text."""
        return self._model.tokenize(text, special=True, begin=True)
