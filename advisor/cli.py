"""The command line: one lazy group, one error printer, one place that turns errors into exit codes.

Each command lives in `advisor/commands/<name>.py` as `command` and is imported only when it is called, so that
`advisor recommend` never pays for a server or a runtime.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Sequence

import click

from advisor import __version__
from advisor.console import interrupts, streams
from advisor.errors import AdvisorError, Interrupted, RuntimeFailed, UsageError, unknown_name

COMMANDS = {
    "detect": "show this machine: processor, memory, GPUs, backends",
    "recommend": "choose the Gemma 4 that suits this machine, and say why",
    "estimate": "memory and speed of a configuration, or of a Gemma 4 GGUF file",
    "launch": "start a model and print its endpoint",
    "run": "answer one prompt",
    "chat": "talk to a model in the terminal",
    "trial": "measure with and without the drafter, decide, remember",
    "calibrate": "measure memory bandwidth and the cost of several tokens at once",
    "cost": "what a million tokens cost here, compared with hosted services",
    "ps": "list what is running",
    "stop": "stop what is running",
    "logs": "print the log of a session",
    "demo": "try it all with the embedded model: no network, no other runtime",
    "models": "list the models of the catalogue",
    "backends": "list what can run models here",
    "doctor": "find out what is wrong here and how to mend it",
    "schema": "print the JSON Schema of `recommend --json`",
}


class LazyGroup(click.Group):
    """A group whose commands are modules, imported when called; help texts of the overview come from `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"advisor.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            raise unknown_name("command", args[0], COMMANDS, command="advisor --help")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        if "NO_COLOR" in os.environ:
            ctx.color = False
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        except (BrokenPipeError, SystemExit):
            # The reader has gone (`advisor models | head -1`), which is not our failure: leave quietly. (rich makes a
            # SystemExit of it.)
            streams.leave()
            return 0
        except (Exception, KeyboardInterrupt) as raised:
            if not ctx.meta.get(streams.ANSWERED) or "ADVISOR_DEBUG" in os.environ:
                raise
            return told(shown_error(raised), ())
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `advisor recommend`, or try everything at once with `advisor demo`.",
)
@click.version_option(__version__, prog_name="advisor")
@click.option("--plain", is_flag=True, help="Ask the wizard's questions as plain text, for screen readers.")
@click.pass_context
def cli(ctx: click.Context, *, plain: bool) -> None:
    """Knows this machine, chooses the right Gemma 4 for it, and runs it with its drafter.

    In a terminal, `advisor` alone opens the wizard.
    """
    if ctx.invoked_subcommand is not None:
        return
    if plain or in_terminal():
        from advisor.tui import entry  # noqa: PLC0415 - a user interface, for those who want one

        entry.open_wizard(plain=plain)
    else:
        click.echo(ctx.get_help())


def in_terminal() -> bool:
    """Whether the wizard can be shown: in a terminal, or where Textual serves it to a browser."""
    # Textual draws on standard error.
    streams_shown = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    return "TEXTUAL_DRIVER" in os.environ or (streams_shown and os.environ.get("TERM") != "dumb")


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Nothing that a user can cause ends in a traceback."""
    streams.present()
    try:
        result = cli.main(args=list(argv), prog_name="advisor", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as raised:
        if "ADVISOR_DEBUG" in os.environ:
            raise
        return told(shown_error(raised), argv)
    return result if isinstance(result, int) else 0


def told(error: AdvisorError, argv: Sequence[str]) -> int:
    """Print the error as the command line wants it; returns the exit code."""
    try:
        report(error, as_json="--json" in argv)
    except OSError:
        streams.leave()
        with contextlib.suppress(OSError):
            report(error, as_json=False)
    return error.exit_code


def shown_error(raised: BaseException) -> AdvisorError:
    """The error to show for whatever ended the command."""
    if isinstance(raised, AdvisorError):
        return raised
    if isinstance(raised, click.UsageError):
        path = raised.ctx.command_path if raised.ctx else "advisor"
        return UsageError(raised.format_message().rstrip("."), command=f"{path} --help")
    if isinstance(raised, click.ClickException):
        return UsageError(raised.format_message())
    if isinstance(raised, click.Abort) or interrupts.behind(raised):
        return Interrupted("interrupted")
    if isinstance(raised, OSError) and raised.strerror:
        where = f": {raised.filename}" if raised.filename else ""
        return RuntimeFailed(f"{raised.strerror}{where}", hint="so says the system; ADVISOR_DEBUG=1 shows where")
    return AdvisorError(
        f"{type(raised).__name__}: {raised}", hint="this is a defect of advisor; ADVISOR_DEBUG=1 shows where"
    )


def report(error: AdvisorError, *, as_json: bool) -> None:
    """Print an error: one JSON document on standard output, or up to three lines on standard error."""
    if as_json:
        click.echo(json.dumps(error.as_json()))
        return
    click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)
    if error.command:
        click.echo(f"  try: {error.command}", err=True)
