"""What the demo pair does in the native engine on text that it was not trained on, by kind.

    python -m profiles.demo.evaluate               the table of README.md
    python -m profiles.demo.evaluate --write       first write held_out.json anew from the corpus

Questions are answered, passages of documentation continued. `stated` are questions of the corpus's own test split:
near relatives of training questions. `free` are written by hand for this table, without looking at the corpus.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from backends.native.engine import Engine

FOLDER = Path(__file__).parent
HELD_OUT = FOLDER / "held_out.json"
STATED, PASSAGES, OPENING = 60, 60, 400


@dataclass
class Score:
    """Counts over a kind's prompts. `tries` and `hits` by draft position."""

    drafted: int = 0
    accepted: int = 0
    tokens: int = 0
    ratios: list[float] = field(default_factory=list)
    tries: list[int] = field(default_factory=lambda: [0] * 8)
    hits: list[int] = field(default_factory=lambda: [0] * 8)

    def add(self, drafted: int, accepted: int) -> None:
        """One round."""
        self.drafted, self.accepted = self.drafted + drafted, self.accepted + accepted
        for position in range(drafted):
            self.tries[position] += 1
            self.hits[position] += position < accepted


def write() -> None:
    """Choose held-out prompts from the corpus, by hash, and keep them beside the hand-written ones."""
    from profiles.demo.corpus import documents, examples, stable  # noqa: PLC0415 - seconds that scoring does not need

    questions = [example.question for example in examples() if example.split == "test"]
    questions.sort(key=stable)
    passages = [
        document.text[start : start + OPENING]
        for document in documents()
        if document.split == "test"
        for start in range(0, len(document.text) - 3 * OPENING, 3 * OPENING)
    ]
    passages.sort(key=stable)
    kept = json.loads(HELD_OUT.read_text()) if HELD_OUT.exists() else {"free": []}
    kept |= {"stated": questions[:STATED], "passages": passages[:PASSAGES]}
    HELD_OUT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def prompts(kind: str) -> list[tuple[str, bool]]:
    """(text, whether it is a question) of a kind."""
    return [(text, kind != "passages") for text in json.loads(HELD_OUT.read_text())[kind]]


def tokens(engine: Engine, text: str, *, question: bool) -> list[int]:
    """A prompt as the target reads it."""
    chat = f"<|turn>user\n{text}<turn|>\n<|turn>model\n" if question else text
    return engine.target.model.tokenize(chat, special=question, begin=True)


def score(engine: Engine, kind: str, drafts: int, limit: int) -> Score:
    """Answer each prompt of a kind with and without drafts, in turn."""
    found = Score()
    for text, question in prompts(kind):
        prompt = tokens(engine, text, question=question)
        spent = {}
        for count in (0, drafts):
            began = perf_counter()
            rounds = list(engine.generate(prompt, draft_tokens=count, max_tokens=limit))
            spent[count] = (perf_counter() - began) / sum(len(one.tokens) for one in rounds)
        for one in rounds:
            found.add(one.drafted, one.accepted)
            found.tokens += len(one.tokens)
        found.ratios.append(spent[0] / spent[drafts])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--draft-tokens", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=128)
    options = parser.parse_args()
    if options.write:
        write()
    engine = Engine(FOLDER / "demo.gguf", FOLDER / "demo-drafter.gguf", context_tokens=2048)
    print("| prompts | tokens | drafted | accepted | by position | speed against plain |\n|---|---|---|---|---|---|")
    for kind in ("stated", "free", "passages"):
        found = score(engine, kind, options.draft_tokens, options.max_tokens)
        places = " ".join(f"{h / t:.2f}" for h, t in zip(found.hits, found.tries, strict=True) if t)
        share = found.accepted / max(1, found.drafted)
        print(
            f"| {len(found.ratios)} {kind} | {found.tokens:,} | {found.drafted:,} | {share:.1%} | {places} "
            f"| {median(found.ratios):.2f}x |",
            flush=True,
        )
    engine.close()


if __name__ == "__main__":
    main()
