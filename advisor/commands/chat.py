"""`advisor chat`: a conversation in the terminal, with whatever runs or with a model started for it."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advisor.commands.launch import LOOKING, drafter_words, ended_by_signals, fetch, opened
from advisor.commands.ps import stats_words
from advisor.commands.values import Number
from advisor.console.footer import Footer
from advisor.console.printer import Printer
from advisor.console.progress import busy
from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from advisor.machine import Record
from advisor.running import launching, sessions
from advisor.running.order import DEMO, Order
from advisor.running.sessions import Session
from backends.base import Backend, load, usable

if TYPE_CHECKING:
    from advisor.running.client import Client, Text, Timings

SAMPLING = {"temperature": 1.0, "top_p": 0.95, "top_k": 64}
"""Gemma 4's own (its model card)."""

ENDS = ("/quit", "/exit", "/bye")

EPILOG = """\b
Examples:
  advisor chat
  advisor chat demo
  advisor chat 12b --system "Answer in one sentence."
  echo "What is a drafter?" | advisor chat demo

\b
In the conversation:
  /stats          speed, acceptance and memory so far
  /reset          begin anew
  /save FILE      write the conversation as JSON
  /model [NAME]   what runs; go on with another session
  /help, /quit    ctrl-c stops an answer, ctrl-d ends
"""


@click.command(epilog=EPILOG)
@click.argument("model", required=False)
@click.option("--backend", metavar="B", help="What runs MODEL, if it has to be started.")
@click.option(
    "--context", type=click.IntRange(min=1), metavar="N", help="Context length in tokens, if it has to be started."
)
@click.option("--no-drafter", is_flag=True, help="Decode without a drafter, if it has to be started.")
@click.option("--system", metavar="TEXT", help="System prompt.")
@click.option("--temperature", type=Number(0, 2), metavar="T", help="0 is greedy; by default Gemma's own.")
def command(
    model: str | None,
    *,
    backend: str | None,
    context: int | None,
    no_drafter: bool,
    system: str | None,
    temperature: float | None,
) -> None:
    """Talk to MODEL: a running session of that name or model, or one started for this conversation.

    Left out, it is the session that runs. Thoughts are dimmed; each answer ends with its speed and what was accepted.
    """
    order = Order(model=model, backend=backend, context=context, use_drafter=not no_drafter)
    with ended_by_signals(), _session(order) as (session, runner):
        chat = Chat(session, runner, system=system, temperature=temperature)
        with chat.connected():
            chat.run(_lines())


@contextlib.contextmanager
def _session(order: Order) -> Iterator[tuple[Session, Backend]]:
    """A running session, or a new one for the block.

    Raises:
        UsageError: nothing runs and no model was named.
    """
    nothing = order.model is None and not any(each.status == "running" for each in sessions.living())
    session = sessions.serving(order.model) if order.model else None if nothing else sessions.find()
    if session is not None and order.backend in (None, session.backend):
        yield session, load(session.backend)
        return
    if order.model is None:
        raise UsageError("nothing is running", hint="name a model, such as demo or 12b", command="advisor chat demo")
    with busy(LOOKING):
        setup = launching.configure(order)
    runner = usable(setup.backend)
    fetch(setup)
    with opened(runner, setup) as (session, proof):
        click.secho(f"{session.model} on {session.backend}; drafter {drafter_words(proof)}", dim=True, err=True)
        yield session, runner


def _lines() -> Iterator[str]:
    """What the user types, or what comes through a pipe. Ctrl-c empties the line, ctrl-d ends."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - gives `input` its history and its editing
    click.secho("/help for commands, ctrl-c stops an answer, ctrl-d ends", dim=True, err=True)
    while True:
        try:
            yield input("\n> ")
        except EOFError:
            click.echo(err=True)
            return
        except KeyboardInterrupt:
            click.secho("\n(ctrl-d ends)", dim=True, err=True)


class Turn(Record, frozen=True, kw_only=True):
    """One exchange. `stopped`: the user ended the answer."""

    question: str
    answer: str
    stopped: bool = False


class Chat:
    """A conversation with one session at a time. Thoughts are shown and then dropped, as Gemma wants it."""

    def __init__(
        self, session: Session, backend: Backend, *, system: str | None = None, temperature: float | None = None
    ) -> None:
        self.session = session
        self.backend = backend
        self.turns: list[Turn] = []
        self._system = system
        greedy = temperature == 0 or (temperature is None and session.model == DEMO)
        self._sampling = {"temperature": 0} if greedy else SAMPLING
        if temperature:
            self._sampling = {**SAMPLING, "temperature": temperature}
        self._client: Client | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/stats": self._stats,
            "/reset": self._reset,
            "/save": self._save,
            "/model": self._model,
        }

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Hold the connection to the session."""
        self._connect()
        try:
            yield
        finally:
            if self._client:
                self._client.close()

    def _connect(self) -> None:
        from advisor.running.client import joined  # noqa: PLC0415 - an HTTP library takes longer to import than help to show

        if self._client:
            self._client.close()
        self._client = joined(self.backend, self.session.endpoint)

    def run(self, lines: Iterator[str]) -> None:
        """Answer line by line.

        Raises:
            RuntimeFailed: the server is gone.
        """
        for line in lines:
            if line.strip() in ENDS:
                return
            try:
                self.obey(line)
            except UsageError as error:
                click.echo(click.style("error: ", fg="red") + error.message, err=True)
                if error.hint:
                    click.echo(f"  {error.hint}", err=True)
            except KeyboardInterrupt:
                # Between two answers, as while statistics are asked for: nothing to stop, nothing to end.
                click.secho("(ctrl-d ends)", dim=True, err=True)

    def obey(self, line: str) -> None:
        """Do what a line says: a command, or a question.

        Raises:
            UsageError: there is no such command, or it cannot be done.
        """
        word, _, rest = line.strip().partition(" ")
        if word in self._commands:
            self._commands[word](rest.strip())
        elif word.startswith("/") and word[1:].isalpha():
            raise UsageError(f"unknown command {word}", hint=f"there are {', '.join(self._commands)}, /quit")
        elif word:
            self.ask(line)

    # ---- Answers

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation as the API wants it."""
        before = [{"role": "system", "content": self._system}] if self._system else []
        for turn in self.turns:
            before += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        return before

    def ask(self, question: str) -> None:
        """Stream one answer and remember it; ctrl-c ends it and keeps what came.

        Raises:
            UsageError: the server refuses it, as when the context is full.
            RuntimeFailed: the server is gone.
        """
        from advisor.running.client import Done  # noqa: PLC0415

        assert self._client is not None  # noqa: S101 - set by `connected`
        footer, printer = Footer(), Printer(quiet=False)
        live = footer.possible and self._client.counts_live
        options = self._sampling | ({"timings_per_token": True} if live else {})
        events = self._client.chat([*self.messages, {"role": "user", "content": question}], **options)
        said, counted, stopped, pace = "", None, False, Pace()
        try:
            footer.show("reading ... (ctrl-c stops)")
            for event in events:
                counted = event.timings or counted
                if not isinstance(event, Done):
                    said += _shown(printer, event)
                    footer.show(live_words(event, pace.step()))
        except KeyboardInterrupt:
            stopped = True
        finally:
            # Closing the stream tells the server to stop.
            events.close()  # type: ignore[attr-defined]
            footer.clear()
            printer.end()
        self.turns.append(Turn(question=question, answer=said, stopped=stopped))
        notes = ["stopped"] if stopped else []
        notes += [timings_words(counted)] if counted else []
        click.secho(f"({', '.join(notes)})", dim=True, err=True)

    # ---- Commands

    def _stats(self, _: str) -> None:
        try:
            counted = self.backend.stats(self.session.endpoint)
        except RuntimeFailed as error:
            raise UsageError(error.message, hint=error.hint) from None
        click.echo(stats_words(counted, drafter=self.session.drafter))

    def _help(self, _: str) -> None:
        click.echo(EPILOG.partition("In the conversation:\n")[2].rstrip())

    def _reset(self, _: str) -> None:
        self.turns.clear()
        click.secho("(a new conversation)", dim=True, err=True)

    def _save(self, name: str) -> None:
        if not name:
            raise UsageError("/save needs the name of a file")
        path = Path(name).expanduser()
        document: dict[str, Any] = {"schema": "advisor.chat/1", "model": self.session.model, "messages": self.messages}
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(document, file, ensure_ascii=False, indent=2)
        except FileExistsError:
            raise UsageError(f"{path} exists already", hint="choose another name") from None
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None
        click.secho(f"(saved to {path})", dim=True, err=True)

    def _model(self, name: str) -> None:
        if not name:
            for each in sessions.living():
                here = "*" if each.name == self.session.name else " "
                click.echo(f"{here} {each.name}  {each.model} on {each.backend}")
            return
        session = sessions.find(name)
        try:
            self.backend = load(session.backend)
        except AdvisorError as error:
            raise UsageError(error.message, hint=error.hint) from None
        self.session = session
        self._connect()
        click.secho(f"(going on with {session.name}: {session.model} on {session.backend})", dim=True, err=True)


def _shown(printer: Printer, piece: Text) -> str:
    """Show a piece; returns what of it belongs to the answer."""
    printer.show(piece.text, thought=piece.thought)
    return "" if piece.thought else piece.text


class Pace:
    """How fast pieces come, for servers that count at the end only: nearly all send each token as one."""

    def __init__(self) -> None:
        self._pieces, self._first = 0, 0.0

    def step(self) -> float:
        """One more piece; returns how many came per second."""
        now = time.monotonic()
        self._first = self._first or now
        self._pieces += 1
        return (self._pieces - 1) / (now - self._first) if now > self._first else 0.0


def live_words(piece: Text, pace: float) -> str:
    """What the footer says while an answer comes."""
    doing = "thinking" if piece.thought else "answering"
    counted = timings_words(piece.timings) if piece.timings else f"about {pace:,.0f} tokens/s" if pace else ""
    return ", ".join(filter(None, (doing, counted))) + " (ctrl-c stops)"


def timings_words(timings: Timings) -> str:
    """`64 tokens, 41.2 tokens/s, 71% accepted`."""
    words = [f"{timings.predicted_n or 0} tokens"]
    if timings.predicted_per_second:
        words.append(f"{timings.predicted_per_second:,.1f} tokens/s")
    if timings.draft_n:
        words.append(f"{(timings.draft_n_accepted or 0) / timings.draft_n:.0%} accepted")
    return ", ".join(words)
