"""Text that comes in pieces: characters spread over tokens, stop strings, thoughts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.native.text import Form, Piece, Reader, held


def read(chunks: list[bytes], *stops: str, thoughts: bool = True) -> tuple[str, str, bool]:
    """Answer, thought, and whether a stop string ended it."""
    reader = Reader(Form(stops, thoughts))
    pieces = [piece for chunk in chunks for piece in reader.feed(chunk)] + list(reader.feed(b"", final=True))
    assert all(piece.text for piece in pieces)
    return (
        "".join(piece.text for piece in pieces if not piece.thought),
        "".join(piece.text for piece in pieces if piece.thought),
        reader.stopped,
    )


@given(st.text(min_size=1), st.integers(1, 4))
def test_characters_are_never_cut(text: str, size: int) -> None:
    data = text.encode()
    assert read([data[i : i + size] for i in range(0, len(data), size)], thoughts=False)[0] == text


def test_half_a_character_at_the_end_is_marked() -> None:
    assert read(["🙂".encode()[:2]])[0] == "�"


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(1, 5))
def test_stops_wherever_the_pieces_are_cut(text: str, stop: str, size: int) -> None:
    chunks = [text[i : i + size].encode() for i in range(0, len(text), size)]
    at = text.find(stop)
    assert read(chunks, stop) == (text if at < 0 else text[:at], "", at >= 0)


def test_the_first_of_several_stops_wins() -> None:
    assert read([b"one, two. three"], ".", ",") == ("one", "", True)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_thoughts_go_apart(size: int) -> None:
    data = b"<|channel>thought\nhm, stop<channel|>Yes. <|channel>thought\n"
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    assert read(chunks, "stop") == ("Yes. <|channel>thought\n", "hm, stop", False)


def test_an_empty_thought_leaves_nothing() -> None:
    assert read([b"<|channel>thought\n<channel|>Yes"]) == ("Yes", "", False)


def test_what_cannot_become_a_mark_comes_at_once() -> None:
    reader = Reader(Form(("END",)))
    assert list(reader.feed(b"abc E")) == [Piece("abc ")]
    assert list(reader.feed(b"x")) == [Piece("Ex")]
    assert held("abcEN", ("END",)) == 2
