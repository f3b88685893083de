"""How fast main memory is read, measured: every core that may be used scans its part of a large buffer.

Plain `ctypes` on the C library: importing numpy would take longer than the measurement. The calls release the
interpreter's lock, so threads scan at the same time.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

MIB = 1 << 20

BUFFER = 512 * MIB
"""At least this much, because virtual machines do not tell how large the host's cache is."""
MOST = 2048 * MIB
CACHES = 4
"""So many times the caches that are known of: what a scan finds in them is then a small part."""
LEAST_CACHES = 2
AVAILABLE_SHARE = 8
"""Never more than an eighth of the memory that is free."""
LEAST, LEAST_OF_SMALL = 256 * MIB, 64 * MIB
SMALL = 2048 * MIB
"""Free memory of a machine that has no large caches either."""

FILL_S = 0.2
"""Memory that was never written is not there to be read; a busy machine fills less in this time."""
ROUND_S, ROUNDS = 0.03, 3
"""The best round counts: other programs only ever make one slower."""

PIECE = 4 * MIB
"""Scanned per call, a quarter of a millisecond; copied instead (Windows, whose C library scans byte by byte), it has to
stay in the core's cache."""
COPIED_PIECE = MIB // 2

MOST_THREADS = 64

Scan = Callable[[int, int], None]


class Reading(NamedTuple):
    """Bytes per second, over so many bytes by so many threads. `busy`: other programs used the processor meanwhile."""

    rate: float
    buffer: int
    threads: int
    busy: bool


def measure(threads: int, caches: int, available: int) -> Reading | None:
    """Reads memory for about a third of a second.

    Args:
        threads: cores that may be used.
        caches: bytes of all last-level caches, 0 where not known.
        available: bytes of memory that are free.

    Returns:
        None where memory is short, or the machine too busy to fill a buffer that its caches cannot hold.
    """
    size = min(max(BUFFER, CACHES * caches), MOST, available // AVAILABLE_SHARE)
    least = max(LEAST_OF_SMALL if available < SMALL else LEAST, LEAST_CACHES * caches)
    if size < least:
        return None
    threads = max(1, min(threads, MOST_THREADS, size // PIECE))
    try:
        buffer = mmap.mmap(-1, size)
    except OSError:
        return None
    try:
        return scanned(buffer, size, threads, least)
    finally:
        with suppress(BufferError):
            buffer.close()


def scanned(buffer: mmap.mmap, size: int, threads: int, least: int) -> Reading | None:
    view = ctypes.c_char.from_buffer(buffer)
    start = ctypes.addressof(view)
    parts = [(start + number * (size // threads), size // threads // PIECE * PIECE) for number in range(threads)]
    try:
        filled = together([lambda part=part: fill(*part) for part in parts])  # type: ignore[misc]
        if sum(filled) < least:
            return None
        used = [(address, done) for (address, _), done in zip(parts, filled, strict=True) if done]
        before = os.times()
        rounds = [one_round(used) for _ in range(ROUNDS)]
        return Reading(max(rounds), sum(filled), len(used), busy(before, len(used)))
    finally:
        del view


def busy(before: os.times_result, threads: int) -> bool:
    """Whether the process got less than most of the processor time that its threads could have used."""
    after = os.times()
    used = after.user + after.system - before.user - before.system
    return used < 0.7 * threads * (after.elapsed - before.elapsed)


def fill(address: int, size: int) -> int:
    """Writes the part until the time is up; returns how many bytes."""
    end, done = time.perf_counter() + FILL_S, 0
    while done < size and time.perf_counter() < end:
        ctypes.memset(address + done, 1, PIECE)
        done += PIECE
    return done


def one_round(parts: list[tuple[int, int]]) -> float:
    """Bytes per second of all threads together."""
    begin = time.perf_counter()
    done = together([lambda part=part: scan(*part, end=begin + ROUND_S) for part in parts])  # type: ignore[misc]
    return sum(done) / (time.perf_counter() - begin)


def scan(address: int, size: int, *, end: float) -> int:
    """Reads the part again and again until `end`; returns how many bytes."""
    read, piece = reader()
    done = 0
    while time.perf_counter() < end:
        read(address + done % size, piece)
        done += piece
    return done


def reader() -> tuple[Scan, int]:
    """A function that reads memory and keeps nothing, and how much it takes at once."""
    if sys.platform == "win32":
        target = ctypes.create_string_buffer(COPIED_PIECE)
        return lambda address, size: ctypes.memmove(target, address, size) and None, COPIED_PIECE
    search = ctypes.CDLL(None).memchr
    search.restype, search.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    return lambda address, size: search(address, 0, size), PIECE  # no zero is in it


def together(tasks: list[Callable[[], int]]) -> list[int]:
    """Runs all tasks at once, one thread each."""
    results = [0] * len(tasks)

    def run(number: int, task: Callable[[], int]) -> None:
        results[number] = task()

    workers = [threading.Thread(target=run, args=(number, task)) for number, task in enumerate(tasks)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results
