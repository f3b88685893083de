"""`advisor trial`: does the drafter pay here, for which work, and with how many tokens?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from advisor.commands.launch import ended_by_signals, fetch
from advisor.console.progress import Line
from advisor.errors import AdvisorError, Interrupted, UsageError
from advisor.prediction import measurements
from advisor.running import launching, sessions
from advisor.running.order import Order, Setup
from backends.base import Backend, usable

if TYPE_CHECKING:
    from advisor.trials.schedule import Plan

EPILOG = """\b
Examples:
  advisor trial demo --quick
  advisor trial 12b --backend llama.cpp --plot gain.svg
  advisor trial --history
  advisor trial --export mine.json

\b
The result is remembered: `launch` takes its draft length from it, `recommend`
and `estimate` show it as measured. ctrl-c keeps what was measured until then.
Exit codes: 0 done, 2 wrong usage, 3 it does not fit, 4 no backend,
5 a download failed, 6 the runtime failed, 130 interrupted.
"""

ASKED = ("backend", "quant", "context", "drafter")
"""What may be asked for otherwise than a session was started with."""


@click.command(epilog=EPILOG)
@click.argument("model", required=False)
@click.option(
    "--quick",
    is_flag=True,
    help="About a minute: fewer draft lengths, four kinds of work, no long contexts. Where each length takes a slow "
    "start, it takes longer, and says how long after the first.",
)
@click.option("--minutes", type=click.FloatRange(0.1, 600), metavar="M", help="Minutes to take at most; by default 15.")
@click.option("--backend", metavar="B", help="llama.cpp, native or a plugin; by default the best one here.")
@click.option("--quant", metavar="Q", help="File of the catalogue, such as Q8_0.")
@click.option("--context", type=click.IntRange(min=512), metavar="N", help="Context length in tokens.")
@click.option("--drafter", type=click.Path(path_type=Path), help="GGUF file of the drafter.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw a chart: FILE.svg or FILE.png.")
@click.option("--history", is_flag=True, help="Show what was measured so far, of all models or of MODEL.")
@click.option("--forget", is_flag=True, help="Delete what was measured, of all models or of MODEL.")
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the measurements to a file for others, anonymously.",
)
@click.option(
    "--import",
    "import_",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read in measurements that others exported.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document (advisor.trial/1, see `advisor schema trial`)."
)
def command(
    model: str | None,
    *,
    quick: bool,
    minutes: float | None,
    backend: str | None,
    quant: str | None,
    context: int | None,
    drafter: Path | None,
    plot: Path | None,
    history: bool,
    forget: bool,
    export: Path | None,
    import_: Path | None,
    as_json: bool,
) -> int:
    """Measure MODEL with and without its drafter on this machine, decide, and remember it.

    MODEL is e2b, e4b, 12b, 26b, 31b, `demo`, a GGUF file or a running session; left out, it is what runs, else the
    recommendation.
    """
    deeds = [history, forget, export is not None, import_ is not None]
    if sum(deeds) > 1 or (any(deeds) and (quick or plot)):
        raise UsageError("--history, --forget, --export and --import stand alone", command="advisor trial --help")
    if any(deeds):
        from advisor.commands import trial_memory  # noqa: PLC0415

        trial_memory.act(model, forget=forget, export=export, import_=import_, as_json=as_json)
        return 0
    if plot is not None:
        from advisor.pages import chart  # noqa: PLC0415

        chart.check(plot)
    order = Order(model=model, backend=backend, quant=quant, context=context, drafter=drafter)
    seconds = minutes * 60 if minutes else None
    with ended_by_signals():
        return _measured(order, quick=quick, seconds=seconds, plot=plot, as_json=as_json)


def _measured(order: Order, *, quick: bool, seconds: float | None, plot: Path | None, as_json: bool) -> int:
    """Measure, keep and show; returns the exit code, for what was broken off is shown too."""
    from advisor.hardware.detection import detect  # noqa: PLC0415
    from advisor.pages import trial_document  # noqa: PLC0415 - numpy belongs to measuring, not to `--help`
    from advisor.running import tried  # noqa: PLC0415 - numpy belongs to measuring, not to `--help`
    from advisor.trials.schedule import plan_for  # noqa: PLC0415
    from advisor.trials.trial import Trial  # noqa: PLC0415
    from advisor.trials.trial_sessions import Own, Running  # noqa: PLC0415

    order, session = _running(order)
    if order.backend is not None:
        usable(order.backend)  # before anything is looked up for it on the network
    setup = launching.configure(order, measured=False)
    if setup.options.server:
        raise UsageError(
            f"the server at {setup.options.server} was started with its drafter or without, and stays so",
            hint="a trial starts servers of its own; do not name one",
        )
    if setup.model.drafter is None:
        raise UsageError(
            f"{setup.model.name} has no drafter to try: {setup.drafter_reason}", hint="name one with --drafter FILE"
        )
    runner = usable(setup.backend)
    fetch(setup)
    machine = setup.estimate.machine if setup.estimate else detect()
    subject = trial_document.subject_of(
        setup.model, runner, machine, quant=tried.quant_of(setup), placement=tried.placement_of(setup)
    )
    opener = Running(runner, session) if session and _usable(session, setup, runner) else Own(runner, setup)
    trial = Trial(plan_for(opener, quick=quick, seconds=seconds))
    broken: AdvisorError | KeyboardInterrupt | None = None
    try:
        with contextlib.closing(trial.run(opener)) as events:
            _watch(events, trial.plan)
    except (AdvisorError, KeyboardInterrupt) as error:
        if not trial.samples:
            raise
        broken = error
    trial.check()
    found = trial_document.document(trial, subject)
    depth = found.overall.depth_tokens if found.overall else 0
    _keep(trial_document.measurements(found, expected=tried.expectations(setup, depth)))
    _show(found, plot=plot, as_json=as_json)
    if broken is None:
        return 0
    told = broken if isinstance(broken, AdvisorError) else Interrupted("interrupted")
    if not as_json:
        raise told
    return told.exit_code


def _running(order: Order) -> tuple[Order, sessions.Session | None]:
    """The session that MODEL means, and the order that it was started with, as far as nothing else is asked for."""
    if order.model is not None:
        session = sessions.serving(order.model)
    else:
        running = [each for each in sessions.living() if each.status == "running"]
        session = running[0] if len(running) == 1 else None
    if session is None:
        return order, None
    if not session.command:
        return msgspec.structs.replace(order, model=session.model, backend=order.backend or session.backend), session
    from advisor.commands import again  # noqa: PLC0415

    ran = again.order(session.command)
    asked: dict[str, Any] = {name: getattr(order, name) for name in ASKED if getattr(order, name) is not None}
    # The drafter is what is tried, however it was started.
    asked |= {"model": ran.model or session.model, "use_drafter": True, "draft_tokens": None}
    return msgspec.structs.replace(ran, **asked, port=0, detached=False), session


def _usable(session: sessions.Session, setup: Setup, runner: Backend) -> bool:
    """Whether what runs is what was asked for, and can be asked with any length."""
    same = session.backend == setup.backend and session.target == str(setup.model.target)
    return runner.drafts_per_request and same and session.drafter


def _watch(events: Iterator[object], plan: Plan) -> None:
    """Say on standard error how it goes, and what there is no time for."""
    from advisor.pages.trial_words import length_in_words, outlook_line  # noqa: PLC0415
    from advisor.trials.trial import Look, Outlook, Sample, Stage  # noqa: PLC0415

    line, standing = Line(), ""
    try:
        for event in events:
            if isinstance(event, Stage):
                line.show(f"{event.what} ...")
            elif isinstance(event, Outlook):
                if event.schedule.price.start_s is not None or event.lengths or event.cells:
                    line.clear()
                    click.echo(outlook_line(event, plan.seconds), err=True)
            elif isinstance(event, Look) and event.overall is not None:
                best = max(event.overall.standings, key=lambda each: each.gain)
                standing = f"ahead: {length_in_words(best.length)}, {best.gain:.2f}x"
            elif isinstance(event, Sample):
                minutes, seconds = divmod(round(event.left_s), 60)
                drafted = length_in_words(event.length)
                line.show(
                    f"answer {event.number}, {event.cell}, {drafted}  {standing}  {minutes}:{seconds:02d} left at most"
                )
    finally:
        line.clear()


def _keep(found: tuple[measurements.Measurement, ...]) -> None:
    try:
        measurements.keep(*found)
    except AdvisorError as error:
        click.echo(f"warning: {error.message}; {error.hint}", err=True)


def _show(found: object, *, plot: Path | None, as_json: bool) -> None:
    from advisor.pages import chart, trial_page  # noqa: PLC0415
    from advisor.pages.trial_document import TrialDocument  # noqa: PLC0415

    assert isinstance(found, TrialDocument)  # noqa: S101
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        trial_page.show(found)
    if plot is not None:
        chart.write(plot, trial_page.chart(found))
        click.echo(f"chart     {plot}", err=True)
