"""Make the demo pair. Stages, each resumable on its own, all in one folder (default `build/demo`):

    python -m profiles.demo.train prepare            corpus -> tokenizer and token ids          (a minute)
    python -m profiles.demo.train target             train the target, last part with Q4_0 in the loop
    python -m profiles.demo.train drafter            train the drafter on the frozen target
    python -m profiles.demo.train export             write profiles/demo/*.gguf

`--minutes` is the budget of a training stage: the schedule follows the clock, so the same command fits an accelerator
(6 minutes each) and two processor cores (a few hours). Needs `pip install -e '.[demo]'`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from profiles.demo import export as gguf
from profiles.demo import text
from profiles.demo.model import Drafter, Matrix, Shape, Target, fake_q4_0, masks

DRAFT_STEPS = 4
QUANTIZED_FROM = 0.65


class Clock:
    """How far a timed stage is, 0..1, counted from the first step so that compilation costs no training time."""

    def __init__(self, minutes: float) -> None:
        self.seconds, self.began = 60 * minutes, 0.0

    def start(self) -> None:
        self.began = time.monotonic()

    @property
    def share(self) -> float:
        return (time.monotonic() - self.began) / self.seconds if self.began else 0.0


def rate(share: float, peak: float) -> float:
    """Learning rate: linear warm-up over 2 %, then a cosine to a fiftieth."""
    warm = min(1.0, share / 0.02)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(1.0, share))))


def optimizer(model: torch.nn.Module) -> torch.optim.AdamW:
    """Weight decay on matrices only."""
    decay = [p for p in model.parameters() if p.ndim == 2]
    other = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}]
    fused = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=fused)


class Feed:
    """Endless shuffled batches on the device: (tokens, document, position, weight), each [rows, T]."""

    def __init__(self, items: list[text.Sequence], length: int, rows: int, device: str) -> None:
        self.items, self.length, self.rows, self.device = items, length, rows, device
        self.random = np.random.default_rng(0)
        self.epoch = 0

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        while True:
            packed = text.pack(self.items, self.length, self.random)
            arrays = [torch.from_numpy(a) for a in (packed.tokens, packed.document, packed.position, packed.weight)]
            for start in range(0, len(packed.tokens) - self.rows + 1, self.rows):
                yield tuple(a[start : start + self.rows].to(self.device, torch.int64) for a in arrays)
            self.epoch += 1


def step_with(opt: torch.optim.Optimizer, model: torch.nn.Module, loss: Tensor, lr: float) -> None:
    """One optimizer step at a learning rate, gradients clipped."""
    for group in opt.param_groups:
        group["lr"] = lr
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    opt.zero_grad(set_to_none=True)


def target_loss(target: Target, batch: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    """Weighted cross entropy of the next token, and a touch of z-loss that keeps logits from drifting."""
    tokens, document, position, weight = batch
    seen = target(tokens, position, masks(document, position, target.shape.window), dtype)
    logits = target.logits(seen.hidden[:, :-1])
    wanted, share = tokens[:, 1:], weight[:, 1:].float()
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    drift = 1e-4 * logits.logsumexp(-1).pow(2).flatten()
    return ((loss + drift) * share.flatten()).sum() / share.sum()


def drafter_loss(
    target: Target, drafter: Drafter, batch: tuple[Tensor, ...], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Loss over a burst, and agreement with the target's greedy choice by draft position.

    From position t the drafter knows token t+1 and the target's hidden state at t, stands at position t+1, and sees the
    target's cache up to t. Step k is trained where the text itself follows the target's greedy choice so far: elsewhere
    a real burst would have ended. Labels: the target's distribution and its greedy choice.
    """
    tokens, document, position, weight = batch
    with torch.no_grad():
        seen = target(tokens, position, masks(document, position, target.shape.window), dtype)
        greedy = target.logits(seen.hidden)
        probabilities, choice = greedy.softmax(-1), greedy.argmax(-1)
    reach = masks(document, position, target.shape.window, offset=1)
    hidden, following = seen.hidden, weight.float()
    total, agreed = torch.zeros((), device=tokens.device), []
    alive = torch.ones_like(tokens, dtype=torch.bool)
    for step in range(1, DRAFT_STEPS + 1):
        newest = tokens.roll(-step, 1)
        logits, hidden = drafter(target.embedding(newest, dtype), hidden, position + 1, seen, reach)
        label, soft = choice.roll(-step, 1), probabilities.roll(-step, 1)
        same = (document.roll(-step, 1) == document) & (document >= 0)
        same[:, -step:] = False
        counted = (alive & same).float() * (following.roll(-step, 1) > 10).float()
        log = logits.log_softmax(-1)
        loss = -0.5 * (soft * log).sum(-1) - 0.5 * log.gather(-1, label[..., None])[..., 0]
        total = total + (loss * counted).sum() / counted.sum().clamp(min=1) * 0.8 ** (step - 1)
        hit = (logits.argmax(-1) == label).float()
        agreed.append((hit * counted).sum() / counted.sum().clamp(min=1))
        alive = alive & (label == tokens.roll(-step - 1, 1))
    return total, torch.stack(agreed)


def timed(minutes: float, feed: Feed, one: Callable[[tuple[Tensor, ...], float], str]) -> None:
    """Run `one(batch, share of time gone)` until the time is up; print what it says now and then."""
    clock, said = Clock(minutes), 0.0
    for number, batch in enumerate(feed):
        line = one(batch, clock.share)
        if number == 2:
            clock.start()
        if clock.share >= 1.0:
            break
        if clock.share > said:
            said += 0.04
            print(f"{clock.share:5.0%}  step {number:6d}  epoch {feed.epoch:3d}  {line}", flush=True)


def train_target(folder: Path, options: argparse.Namespace) -> None:
    """Train the target. In the last part its matrices compute as Q4_0, and they are baked so at the end."""
    shape, device, dtype = Shape(), options.device, options.dtype
    torch.manual_seed(0)
    target = Target(shape).to(device)
    print(f"target: {sum(p.numel() for p in target.parameters()):,} parameters")
    opt = optimizer(target)
    loss_of = torch.compile(target_loss) if options.compile else target_loss

    def one(batch: tuple[Tensor, ...], share: float) -> str:
        if share > QUANTIZED_FROM and not Matrix.quantized:
            Matrix.quantized = True
            torch._dynamo.reset()
        step_with(opt, target, loss := loss_of(target, batch, dtype), rate(share, options.rate))
        return f"loss {loss.item():.4f}"

    timed(options.minutes, Feed(text.read(folder, "train"), options.length, options.rows, device), one)
    bake(target)
    torch.save({"weights": target.state_dict()}, folder / "target.pt")
    with torch.no_grad():
        held_out = Feed(text.read(folder, "test"), options.length, min(options.rows, 16), device)
        losses = [target_loss(target, batch, dtype).item() for batch, _ in zip(held_out, range(8), strict=False)]
    note(folder, "target_test_loss", float(np.mean(losses)))


def bake(target: Target) -> None:
    """Replace each matrix by its Q4_0 image; what is exported then is what was trained."""
    Matrix.quantized = False
    with torch.no_grad():
        target.ple.copy_(fake_q4_0(target.ple))
        for module in target.modules():
            if isinstance(module, Matrix):
                module.weight.copy_(fake_q4_0(module.weight))


def note(folder: Path, key: str, value: object) -> None:
    """Keep a figure for the README."""
    path = folder / "figures.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    figures[key] = value
    path.write_text(json.dumps(figures, indent=1))
    print(f"{key}: {value}")


def load_target(folder: Path, device: str) -> Target:
    """The trained target, frozen: this folder's, or the published one."""
    target = Target(Shape())
    if (folder / "target.pt").exists():
        target.load_state_dict(torch.load(folder / "target.pt", map_location="cpu")["weights"])
    else:
        gguf.read_target(Path(__file__).parent / gguf.TARGET, target)
    return target.to(device).requires_grad_(False)


def train_drafter(folder: Path, options: argparse.Namespace) -> None:
    """Train the drafter on the frozen target."""
    device, dtype = options.device, options.dtype
    torch.manual_seed(1)
    target, drafter = load_target(folder, device), Drafter(Shape()).to(device)
    print(f"drafter: {sum(p.numel() for p in drafter.parameters()):,} parameters")
    opt = optimizer(drafter)
    loss_of = torch.compile(drafter_loss) if options.compile else drafter_loss

    def one(batch: tuple[Tensor, ...], share: float) -> str:
        loss, agreed = loss_of(target, drafter, batch, dtype)
        step_with(opt, drafter, loss, rate(share, options.rate))
        return f"loss {loss.item():.4f}  agreement " + " ".join(f"{value:.3f}" for value in agreed.tolist())

    rows = max(1, options.rows // 2)
    timed(options.minutes, Feed(text.read(folder, "train"), options.length, rows, device), one)
    torch.save({"weights": drafter.state_dict()}, folder / "drafter.pt")
    with torch.no_grad():
        held_out = Feed(text.read(folder, "test"), options.length, min(rows, 16), device)
        seen = [drafter_loss(target, drafter, b, dtype)[1] for b, _ in zip(held_out, range(8), strict=False)]
    note(folder, "drafter_test_agreement", torch.stack(seen).mean(0).tolist())


@torch.no_grad()
def answer(target: Target, prompts: list[list[int]], most: int, stop: int, dtype: torch.dtype) -> list[list[int]]:
    """Greedy answers to a batch of prompts, recomputed at each step: short texts only."""
    device = target.embed.device
    width = max(len(prompt) for prompt in prompts) + most
    tokens = torch.zeros(len(prompts), width, dtype=torch.int64, device=device)
    ends = torch.tensor([len(prompt) for prompt in prompts], device=device)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt, device=device)
    position = torch.arange(width, device=device)[None].expand(len(prompts), -1)
    seen = masks(torch.zeros_like(position), position, target.shape.window)
    rows, alive = torch.arange(len(prompts), device=device), torch.ones(len(prompts), dtype=torch.bool, device=device)
    for _ in range(most):
        hidden = target(tokens, position, seen, dtype).hidden[rows, ends - 1]
        chosen = target.logits(hidden).argmax(-1)
        alive &= chosen != stop
        tokens[rows[alive], ends[alive]] = chosen[alive]
        ends += alive
        if not alive.any():
            break
    return [tokens[row, len(prompt) : ends[row]].tolist() for row, prompt in enumerate(prompts)]


def ask(folder: Path, options: argparse.Namespace) -> None:
    """Answer held-out questions, count the exact ones, show some."""
    target = load_target(folder, options.device)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    writer = text.Writer(tokenizer)
    stop = tokenizer.token_to_id("<turn|>")
    asked = json.loads((folder / "questions.json").read_text())
    answers = answer(target, [writer.prompt(q) for q, _ in asked], 160, stop, options.dtype)
    texts = [tokenizer.decode(ids, skip_special_tokens=False) for ids in answers]
    known = [(got, want) for got, (_, want) in zip(texts, asked, strict=True) if want]
    note(folder, "exact_answers", sum(got.strip() == want.strip() for got, want in known) / max(1, len(known)))
    for (question, want), got in list(zip(asked, texts, strict=True))[-60:]:
        print(f"? {question}\n  {got}\n" + (f"  [{want}]\n" if want and want.strip() != got.strip() else ""))


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Tokenizer, token ids, and questions to try."""
    text.save(folder, Shape().vocab, options.length)
    held_out = [e for e in text.examples() if e.split == "test"]
    held_out.sort(key=lambda e: text.chunk(e.question, 1 << 32))
    asked = [(e.question, e.answer) for e in held_out[:480]]
    asked += [(question, "") for question in (Path(__file__).parent / "tryouts.txt").read_text().splitlines()]
    (folder / "questions.json").write_text(json.dumps(asked))


def export(folder: Path, options: argparse.Namespace) -> None:
    """Write the two GGUF files."""
    target, drafter = load_target(folder, "cpu"), Drafter(Shape())
    drafter.load_state_dict(torch.load(folder / "drafter.pt", map_location="cpu")["weights"])
    gguf.write_pair(target, drafter, folder / "tokenizer.json", options.out)


def main() -> None:
    """One stage, or several in order."""
    stages = {
        "prepare": prepare,
        "target": train_target,
        "drafter": train_drafter,
        "ask": ask,
        "export": export,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=stages, nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("build/demo"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    options = parser.parse_args()
    options.dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    torch.set_float32_matmul_precision("high")
    for stage in options.stage:
        stages[stage](options.folder, options)


if __name__ == "__main__":
    main()
