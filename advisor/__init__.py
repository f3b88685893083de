"""advisor: knows this machine, chooses the right Gemma 4 for it, and runs it with its drafter.

For other programs::

    from advisor import detect; from advisor import recommend

    answer = recommend(use_case="coding", context_tokens=32_768)
    pick = answer.recommendations[0]
    print(pick.model, pick.quant, pick.speed.decode_tokens_per_s, pick.command)

    machine = detect()                                # look once, ask often
    for use_case in ("chat", "vision"):
        recommend(machine, use_case=use_case)
    recommend("RTX 4090, 64GB", prefer="quality")     # a machine in words

Everything that goes wrong is an `advisor.errors.AdvisorError`. Importing this package imports nothing else.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not `typing`'s: its import is most of the time in which ctrl-c is not ours yet
if TYPE_CHECKING:
    from advisor.api import detect, recommend

__version__ = "0.1.0"
__all__ = ["__version__", "detect", "recommend"]


def __getattr__(name: str) -> object:
    if name in ("detect", "recommend"):
        from advisor import api  # noqa: PLC0415 - the version must cost nothing

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
