"""Step 7: answers as they come, and all that can be done with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from advisor.errors import RuntimeFailed
from advisor.running import sessions
from advisor.tui.app import Wizard
from advisor.tui.screens.chat import ChatStep
from advisor.tui.settings import Settings
from advisor.tui.widgets import conversation
from advisor.tui.widgets.question import Question
from advisor.tui.widgets.turn import Turn
from tests.tui.drive import Script, drive, press, send, settled, step, text, until
from tests.tui.scripted import Scripted
from tests.tui.world import services

WIDE, NARROW = (120, 36), (80, 24)


def talking(script: Script, backend: Scripted, size: tuple[int, int] = WIDE) -> Wizard:
    """Run the script in step 7."""

    async def all_of_it(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "s", "enter")
        await until(pilot, lambda: app.live is not None)
        backend.asked.clear()
        app.action_go("chat")
        await settled(pilot)
        assert step(app) == "chat"
        await script(app, pilot)

    world = replace(services("rtx-4090"), backend=lambda _: backend)
    return drive(Wizard(services=world, options=Settings(), remember=False), all_of_it, size=size)


def chat(app: Wizard) -> ChatStep:
    assert isinstance(app.screen, ChatStep)
    return app.screen


async def ask(app: Wizard, pilot: Pilot[Any], question: str = "What fits?") -> None:
    await until(pilot, lambda: isinstance(app.focused, Question))
    for letter in question:
        send(app, "space" if letter == " " else letter)
    send(app, "enter")
    await until(pilot, lambda: chat(app).answering or chat(app).query(Turn))
    await pilot.pause(0.05)


async def answered(app: Wizard, pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: not chat(app).answering)
    await settled(pilot)
    await pilot.pause(0.1)


def test_an_answer_with_its_figures() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await answered(app, pilot)
        shown = text(app)
        for words in ("What fits?", "it needs about 9.3 GB", "▸ thought for", "41 tok/s", "86%", "14.1 GiB"):
            assert words in shown, words
        assert "14.6 GiB predicted" in shown
        assert "They want to know" not in shown

    talking(script, Scripted())


def test_of_a_long_conversation_the_newest_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of turns take longer to lay out than a frame may; the model is told all of them all the same."""
    monkeypatch.setattr(conversation, "DRAWN", 2)
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        for number in range(4):
            await ask(app, pilot, f"number {number}")
            await answered(app, pilot)
        assert [turn.said.question for turn in chat(app).query(Turn)] == ["number 2", "number 3"]
        assert len(backend.asked[-1]["messages"]) == 7
        chat(app).conversation.scroll_home(animate=False)
        await settled(pilot)
        assert "The first 2 questions are shown no longer" in text(app)
        app.action_go("trial")
        await settled(pilot)
        app.action_go("chat")
        await settled(pilot)
        assert len(chat(app).query(Turn)) == 2
        assert chat(app).conversation.left_out == 2

    talking(script, backend)


def test_in_a_narrow_terminal_the_figures_are_one_line() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await answered(app, pilot)
        assert "accepted 86 71 55%" in text(app)
        assert "14.1 of 14.6 GiB" in text(app)
        assert "predicted" not in text(app)
        await press(pilot, "ctrl+l")
        assert "14.6 GiB predicted" in text(app)
        assert "Temperature" in text(app)
        await press(pilot, "escape")
        assert "advisor launch 12b" in text(app)
        assert step(app) == "chat"

    talking(script, Scripted(), NARROW)


def test_the_newest_stays_in_sight_when_the_terminal_shrinks() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await answered(app, pilot)
        assert "What fits?" in text(app)
        for size in (NARROW, WIDE, NARROW):
            await pilot.resize_terminal(*size)
            await settled(pilot)
            assert "advisor launch 12b" in text(app)
        assert "What fits?" not in text(app), "it is longer than the screen is high"
        await press(pilot, *["pageup"] * 4)
        assert "What fits?" in text(app)

    talking(script, Scripted())


def test_a_terminal_may_shrink_to_nearly_nothing() -> None:
    """Before the figures give way to it, the question has no room."""

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        for size in ((20, 6), WIDE, (41, 12), WIDE):
            await pilot.resize_terminal(*size)
            await settled(pilot)
        assert "Ask something" in text(app)

    talking(script, Scripted())


def test_stopped_what_came_is_kept() -> None:
    backend = Scripted()
    backend.pause_s = 0.05

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await until(pilot, lambda: chat(app).live.talk.said[0].answer)  # type: ignore[union-attr]
        await press(pilot, "escape")
        await answered(app, pilot)
        assert step(app) == "chat"
        assert "stopped" in text(app)
        said = app.live.talk.said[0]  # type: ignore[union-attr]
        assert said.answer and said.ended == "stopped"
        await press(pilot, "escape")
        assert step(app) == "start"

    talking(script, backend)


def test_ctrl_c_stops_an_answer_copies_what_is_marked_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(Wizard, "copy_to_clipboard", lambda self, what: copied.append(what))
    backend = Scripted()
    backend.pause_s = 0.05

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await until(pilot, lambda: chat(app).live.talk.said[0].answer)  # type: ignore[union-attr]
        assert "esc Stop" in text(app).splitlines()[-1]
        await press(pilot, "'mark me", "shift+home")
        send(app, "ctrl+c")
        await pilot.pause(0.1)
        assert copied == ["mark me"]
        assert chat(app).answering
        await press(pilot, "end")
        send(app, "ctrl+c")
        await until(pilot, lambda: not chat(app).answering)
        await settled(pilot)
        said = app.live.talk.said[0]  # type: ignore[union-attr]
        assert said.answer and said.ended == "stopped"
        assert "esc Back" in text(app).splitlines()[-1]
        assert chat(app).query_one(Question).text == "mark me", "what is typed is kept"
        await press(pilot, "ctrl+c")
        assert step(app) == "chat"
        assert [one.message for one in app._notifications] == ["Nothing to stop here; ctrl+q leaves"]

    talking(script, backend)


def test_retry_asks_the_same_without_the_old_answer() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await answered(app, pilot)
        send(app, "ctrl+r")
        await until(pilot, lambda: len(backend.asked) == 2)
        await answered(app, pilot)
        assert backend.asked[0]["messages"] == backend.asked[1]["messages"]
        assert len(app.screen.query(Turn)) == 1

    talking(script, backend)


def test_a_new_conversation_sends_nothing_of_the_old_one() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await answered(app, pilot)
        await press(pilot, "ctrl+n")
        assert "For a start" in text(app)
        assert "What fits?" not in text(app)
        assert "0 of 8,192" in text(app)
        await ask(app, pilot)
        await answered(app, pilot)
        assert len(backend.asked[1]["messages"]) == 1

    talking(script, backend)


def test_the_conversation_goes_along_without_its_thoughts() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        for _ in range(2):
            await ask(app, pilot)
            await answered(app, pilot)
        roles = [message["role"] for message in backend.asked[1]["messages"]]
        assert roles == ["user", "assistant", "user"]
        assert "They want" not in backend.asked[1]["messages"][1]["content"]

    talking(script, backend)


def test_code_is_copied_thoughts_unfold_and_snippets_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(Wizard, "copy_to_clipboard", lambda self, what: copied.append(what))

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await answered(app, pilot)
        await press(pilot, "ctrl+y")
        assert copied[-1].startswith("from advisor import recommend")
        await press(pilot, "ctrl+t")
        assert "They want to know" in text(app)
        await press(pilot, "ctrl+t")
        assert "They want to know" not in text(app)
        assert app.live is not None
        await press(pilot, "ctrl+o")
        assert "curl -N" in text(app)
        await press(pilot, "down", "enter")
        assert f'base_url="{app.live.session.base_url}"' in copied[-1]
        await press(pilot, "ctrl+o", "u")
        assert copied[-1] == app.live.session.base_url

    talking(script, Scripted())


def test_draft_length_and_temperature_hold_from_the_next_answer_on() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "ctrl+l", "home", "right", "tab", "home", "ctrl+l")
        await ask(app, pilot)
        await answered(app, pilot)
        assert backend.asked[0]["draft_tokens"] == 0
        assert backend.asked[0]["temperature"] == 0
        assert "the drafter rests" in text(app)
        await press(pilot, "ctrl+l", "home")
        await press(pilot, "ctrl+l")
        await ask(app, pilot)
        await answered(app, pilot)
        assert backend.asked[1]["draft_tokens"] == "auto"

    talking(script, backend)


def test_an_answer_that_fails_is_said_and_the_next_one_may_not() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        backend.fails["answer"] = RuntimeFailed("the server failed: oops", hint="ask again")
        await ask(app, pilot)
        await answered(app, pilot)
        assert "the server failed: oops. ask again" in text(app)
        backend.running.update(one.base_url for one in sessions.everything())
        await press(pilot, "ctrl+r")
        await answered(app, pilot)
        assert "oops" not in text(app)

    talking(script, backend)


def test_left_running_it_is_on_the_first_step_and_can_be_joined_again() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await ask(app, pilot)
        await answered(app, pilot)
        await pilot.click("#leave")
        await settled(pilot)
        assert step(app) == "answer"
        app.action_go("chat")
        await settled(pilot)
        assert "it needs about 9.3 GB" in text(app), "the conversation is still there"

    talking(script, backend)


def test_many_lines_are_one_question() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "a", "ctrl+j", "b", "enter")
        await answered(app, pilot)
        assert backend.asked[0]["messages"][-1]["content"] == "a\nb"

    talking(script, backend)
