"""What has been chosen so far, the answer to it, and the shell line that gives the same.

Pure: nothing here knows how it is shown, so the wizard and `advisor --plain` share it.
"""

from __future__ import annotations

import shlex

import msgspec

from advisor.choice.candidates import Candidate, Prefer
from advisor.choice.ranking import Ranking, rank
from advisor.choice.request import Request
from advisor.hardware import simulate
from advisor.hardware.correction import corrected
from advisor.knowledge.catalog import Catalog
from advisor.machine import Machine, Record
from advisor.pages.report import Document, RecommendationPart, document

USE_CASE = "chat"


class Choice(Record, frozen=True, kw_only=True):
    """Everything that the user can choose; None leaves it to advisor. `spec`: a described machine instead of this one.
    `gpu` and `memory`: what is corrected of this one. `model` and `quant`: a file instead of the pick."""

    spec: str | None = None
    gpu: str | None = None
    memory: str | None = None
    use_case: str = USE_CASE
    context_tokens: int | None = None
    prefer: Prefer | None = None
    backend: str | None = None
    model: str | None = None
    quant: str | None = None
    drafter: bool = True

    @property
    def here(self) -> bool:
        """Whether it is about this machine, so that it can be started."""
        return self.spec is None

    @property
    def request(self) -> Request:
        """The same for the core."""
        return Request(
            use_case=self.use_case,
            context_tokens=self.context_tokens,
            prefer=self.prefer,
            backend=self.backend,
            model=self.model,
            quant=self.quant,
            drafter=self.drafter,
        )

    @property
    def line(self) -> str:
        """What to type for the same answer."""
        return shlex.join(["advisor", "recommend", *self.options])

    @property
    def options(self) -> list[str]:
        """The options of `advisor recommend` that differ from its defaults."""
        asked = {
            "--use-case": None if self.use_case == USE_CASE else self.use_case,
            "--context": self.context_tokens,
            "--prefer": self.prefer,
            "--backend": self.backend,
            "--model": self.model,
            "--quant": self.quant,
        }
        return self._typed(**asked)

    def _typed(self, **asked: object) -> list[str]:
        """Options, with those that say on which machine, and whether with a drafter."""
        given = {**asked, "--simulate": self.spec, "--gpu": self.gpu, "--memory": self.memory}
        words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
        return words if self.drafter else [*words, "--no-drafter"]

    def estimate_line(self, context_tokens: int) -> str:
        """What to type for what a file takes that need not run: the one that is named.

        Args:
            context_tokens: of the answer that it is compared with.
        """
        options = self._typed(**{"--quant": self.quant, "--context": context_tokens, "--backend": self.backend})
        return shlex.join(["advisor", "estimate", self.model or "", *options])


class Answer(Record, frozen=True, kw_only=True):
    """What the core says to a choice. `field`: the same without the file that was chosen by hand, for comparing."""

    choice: Choice
    ranking: Ranking
    document: Document
    field: Ranking

    @property
    def pick(self) -> RecommendationPart:
        return self.document.recommendations[0]

    @property
    def candidate(self) -> Candidate:
        return self.ranking.recommendations[0].candidate

    @property
    def runner_up(self) -> Candidate | None:
        """The next best model, or the next best file where there is no other model."""
        others = [entry.candidate for entry in self.field.recommendations] + list(self.field.running)
        mine = (self.candidate.model.id, self.candidate.quant.name)
        return next((one for one in others if (one.model.id, one.quant.name) != mine), None)


def machine_of(choice: Choice, detected: Machine | None, catalog: Catalog) -> Machine:
    """The machine that the choice is about.

    Raises:
        UsageError: an unknown device, or a size that cannot be.
        LookupError: it is about this machine, and that was not detected yet.
    """
    if choice.spec is not None:
        machine = simulate.parse(choice.spec, catalog)
    elif detected is not None:
        machine = detected
    else:
        raise LookupError("nothing was detected yet")
    return corrected(machine, catalog, gpu=choice.gpu, memory=choice.memory)


def answer(choice: Choice, detected: Machine | None, catalog: Catalog) -> Answer:
    """What the core recommends.

    Raises:
        AdvisorError: as `rank`.
    """
    machine = machine_of(choice, detected, catalog)
    ranking = rank(choice.request, machine, catalog)
    field = ranking if choice.model is None else rank(without_file(choice).request, machine, catalog)
    return Answer(choice=choice, ranking=ranking, document=document(ranking, options=repeated(choice)), field=field)


def repeated(choice: Choice) -> dict[str, str]:
    """The options that the launch command repeats. On a machine that is elsewhere nothing is corrected any more."""
    corrected = {"--gpu": choice.gpu, "--memory": choice.memory} if choice.here else {}
    return {name: value for name, value in {"--backend": choice.backend, **corrected}.items() if value}


def without_file(choice: Choice) -> Choice:
    """The choice with the pick left to advisor."""
    return msgspec.structs.replace(choice, model=None, quant=None)
