"""Tool calls: Gemma's spelling into JSON, wherever the pieces are cut, and never a call that is none."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.native.text import Form, Piece, Reader, joined
from backends.native.tools import CALL_BEGIN, CALL_END, QUOTE, Call


def spelled(value: Any) -> str:
    """A value as Gemma writes it."""
    if isinstance(value, str):
        return f"{QUOTE}{value}{QUOTE}"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return repr(value)


words = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda text: "<|" not in text and "|>" not in text)
keys = st.text("abcdefgh_XYZ019-é", min_size=1, max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e9, 1e9) | words
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
objects = st.dictionaries(keys, values, max_size=5)


calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def events(data: bytes, cuts: list[int], form: Form) -> tuple[list[Piece | Call], Reader]:
    reader = Reader(form)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found = [e for a, b in itertools.pairwise(edges) for e in reader.feed(data[a:b])]
    return [*found, *reader.feed(b"", final=True)], reader


def read(data: bytes, cuts: list[int], form: Form) -> tuple[str, str, list[Call], Reader]:
    """Answer, thought and whole calls."""
    found, reader = events(data, cuts, form)
    whole = joined(found)
    assert all(call.name for call in whole if isinstance(call, Call))
    text = "".join(e.text for e in whole if isinstance(e, Piece) and not e.thought)
    thought = "".join(e.text for e in whole if isinstance(e, Piece) and e.thought)
    return text, thought, [e for e in whole if isinstance(e, Call)], reader


def parse(body: str) -> Call | None:
    """The one call that `body` is, None where it is text."""
    text, _, calls, _ = read(f"{CALL_BEGIN}{body}{CALL_END}".encode(), [], Form(calls=True))
    if not calls:
        assert text == f"{CALL_BEGIN}{body}{CALL_END}"
        return None
    (call,) = calls
    return call


@calm
@given(objects)
def test_any_arguments(arguments: dict[str, Any]) -> None:
    call = parse(f"call:some_tool{spelled(arguments)}")
    assert call is not None
    assert call.name == "some_tool"
    assert json.loads(call.arguments) == arguments


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("call:f{}", {}),
        (" call:f { a : 1 , b : [ ] } ", {"a": 1, "b": []}),
        ('call:f{"a":"x\\ny","b c":2}', {"a": "x\ny", "b c": 2}),
        ("call:f{city:New York,on:True,off:none}", {"city": "New York", "on": True, "off": None}),
        (f"call:f{{code:{QUOTE}if (a) {{ b['c'] = \"d\"; }}{QUOTE}}}", {"code": "if (a) { b['c'] = \"d\"; }"}),
        ("call:f{a:1e5,b:1e999,c:007,d:-3}", {"a": 1e5, "b": "1e999", "c": "007", "d": -3}),
        (f"call:f{{a:{'9' * 5000}}}", {"a": "9" * 5000}),
        ('call:f{"a":"\\ud800","b":"<tool_call|>"}', {"a": "\ud800", "b": "<tool_call|>"}),
        ("call:f{a:[[],{},[{}]],b:{c:{}}}", {"a": [[], {}, [{}]], "b": {"c": {}}}),
    ],
)
def test_spellings(body: str, arguments: dict[str, Any]) -> None:
    call = parse(body)
    assert call is not None
    assert json.loads(call.arguments) == arguments


@pytest.mark.parametrize(
    "body",
    ["", "f{}", "call:f", "call:{}", "call:f{a}", "call:f{a:}", "call:f{a:1", "call:f{,}", "call:f{a:]}", "call:f{]"],
)
def test_no_calls(body: str) -> None:
    assert parse(body) is None


def test_no_depth_is_too_much() -> None:
    assert parse("call:f{a:" + "[" * 100_000) is None
    assert parse("call:f" + "{a:" * 500 + "1" + "}" * 500) is None


@calm
@given(objects, st.lists(st.integers(0, 10**6), max_size=12))
def test_pieces_cut_anywhere(arguments: dict[str, Any], cuts: list[int]) -> None:
    call = f"{CALL_BEGIN}call:f{spelled(arguments)}{CALL_END}"
    said = f"<|channel>thought\nWhich? é<channel|>Let me look.{call}{call}"
    text, thought, calls, _ = read(said.encode(), cuts, Form(calls=True, stops=("never said",)))
    assert (text, thought) == ("Let me look.", "Which? é")
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [("f", arguments)] * 2


def test_marks_inside_a_string_are_text() -> None:
    call = f"{CALL_BEGIN}call:f{{a:{QUOTE}x{CALL_END}y{QUOTE}}}{CALL_END}"
    assert json.loads(read(call.encode(), [], Form(calls=True))[2][0].arguments) == {"a": f"x{CALL_END}y"}


def test_stops_do_not_count_inside_a_call() -> None:
    text, _, calls, reader = read(b"a<|tool_call>call:f{a:END}<tool_call|>bENDc", [5], Form(("END",), calls=True))
    assert (text, len(calls), reader.stopped) == ("ab", 1, True)


def test_one_call_ends_the_answer() -> None:
    two = b"<|tool_call>call:f{}<tool_call|><|tool_call>call:g{}<tool_call|>"
    _, _, calls, reader = read(two, [], Form(calls=True, one_call=True))
    assert [call.name for call in calls] == ["f"]
    assert reader.stopped


def test_what_the_prompt_began_belongs_to_the_call() -> None:
    _, _, calls, _ = read(b"a:1}<tool_call|>", [3], Form(calls=True, begun=f"{CALL_BEGIN}call:f{{"))
    assert calls == [Call("f", '{"a": 1}')]


def test_a_call_comes_piece_by_piece() -> None:
    """The name at the first value, strings while they are written, and only what cannot change any more."""
    reader = Reader(Form(calls=True))
    said = f"{CALL_BEGIN}call:write {{path:{QUOTE}a.py{QUOTE},text:{QUOTE}x = 1\ny{QUOTE},n:12}}{CALL_END}"
    given: list[Call] = []
    when: dict[str, int] = {}
    for at, char in enumerate(said):
        for event in reader.feed(char.encode()):
            assert isinstance(event, Call)
            given.append(event)
            when[joined(given)[0].arguments] = at  # type: ignore[union-attr]
    (call,) = joined(given)
    assert call == Call("write", '{"path": "a.py", "text": "x = 1\\ny", "n": 12}')
    assert [event.name for event in given] == ["write"] + [""] * (len(given) - 1)
    assert when['{"path": "'] == said.index("a.py") - 1
    assert when['{"path": "a.py", "text": "x = 1\\n'] == said.index("\n")
    assert when['{"path": "a.py", "text": "x = 1\\ny", "n": 12}'] <= said.index(CALL_END)
    assert not any(text.endswith(": 1") for text in when)


@calm
@given(objects, st.integers(0, 10**6))
def test_what_was_given_of_a_call_never_changes(arguments: dict[str, Any], cut: int) -> None:
    """An answer that ends inside a call: what was given is a beginning of the call, or it is text."""
    whole = f"{CALL_BEGIN}call:f{spelled(arguments)}{CALL_END}"
    part = whole[: cut % (len(whole) + 1)]
    text, _, calls, _ = read(part.encode(), [], Form(calls=True))
    if not calls:
        assert text == part
        return
    assert text == ""
    assert json.dumps(arguments, ensure_ascii=False).startswith(calls[0].arguments)


def test_a_call_that_goes_wrong_late_is_passed_on() -> None:
    text, _, calls, reader = read(b"<|tool_call>call:f{a:1,b:}<tool_call|>!", [], Form(calls=True))
    assert (text, calls) == ("!", [Call("f", '{"a": 1, "b": }')])
    assert reader.calls == 1
    text, _, calls, _ = read(b"<|tool_call>call:f{a:1} or so<tool_call|>!", [3, 20, 30], Form(calls=True))
    assert (text, calls) == ("or so!", [Call("f", '{"a": 1}')])


def test_long_arguments_take_no_longer_than_they_are() -> None:
    data = f"{CALL_BEGIN}call:f{{a:{QUOTE}{'x' * 400_000}{QUOTE},b:[{'1,' * 50_000}1]}}{CALL_END}".encode()
    began = time.process_time()
    (call,) = read(data, list(range(0, len(data), 5)), Form(calls=True))[2]
    assert len(json.loads(call.arguments)["b"]) == 50_001
    assert time.process_time() - began < 10


def test_calls_that_are_none_are_text() -> None:
    for said in ("<|tool_call>call:f{a:<tool_call|>!", "<|tool_call>call:f{a:1"):
        assert read(said.encode(), [], Form(calls=True))[0] == said
    assert read(b"<|tool_call>call:f{a:1}", [], Form(calls=True))[2] == [Call("f", '{"a": 1}')]
    # Where there are no tools, the marks are text like any other.
    assert read(b"<|tool_call>call:f{}<tool_call|>", [], Form())[0] == "<|tool_call>call:f{}<tool_call|>"
