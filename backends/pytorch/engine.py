"""Transformers' `generate` as the rounds that the server tells of."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from backends import checkpoint, roots
from backends.native.engine import Round
from backends.native.library import ContextFull
from backends.native.sampling import GREEDY, Sampling
from backends.pytorch.drafting import Assistant
from backends.pytorch.scores import Shaped
from backends.pytorch.vocabulary import Vocabulary

WARM_UP = "Hello"


class Context(NamedTuple):
    tokens: int


class Target(NamedTuple):
    """What the server asks of the target. `cached`: every prompt is read anew."""

    model: Vocabulary
    context: Context
    cached: int = 0


class Wanted(NamedTuple):
    """One answer, as `generate` is asked for it."""

    prompt: Sequence[int]
    draft_tokens: int
    limit: int
    stopped: Callable[[], bool]
    sampling: Sampling


class Engine:
    """A target, with or without its assistant, that answers one prompt at a time.

    All of PyTorch runs on one thread: another thread would get threads of its own for every operation.

    Args:
        target, drafter: folders with checkpoints.
        device: `cpu`, `cuda:0`, `mps`.
        dtype: of PyTorch, or `auto` for the one the checkpoint is in.

    Raises:
        RuntimeFailed: a checkpoint cannot be loaded, or does not belong to the other.
    """

    def __init__(
        self,
        target: Path,
        drafter: Path | None = None,
        *,
        context_tokens: int = 4096,
        threads: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        checkpoint.check(target, drafter)
        self._thread = ThreadPoolExecutor(1, "torch", initializer=_threads, initargs=(threads,))
        self._device, self._dtype = device, dtype
        self._model = self._load(target)
        self._assistant = Assistant(self._load(drafter)) if drafter else None
        self.has_drafter = drafter is not None
        self.end = _ends(self._model)
        # What a checkpoint recommends for sampling must not change scores that are shaped already.
        self._model.generation_config = type(self._model.generation_config)()
        self.target = Target(self._vocabulary(target), Context(context_tokens))

    def _load(self, folder: Path) -> Any:
        return self._thread.submit(_loaded, folder, self._device, self._dtype).result()

    def _vocabulary(self, folder: Path) -> Vocabulary:
        from transformers import AutoTokenizer  # noqa: PLC0415

        with _told(f"the tokenizer in {folder}"):
            found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            return Vocabulary(found, folder, self._model.config.get_text_config().vocab_size)

    def warm(self, draft_tokens: int) -> None:
        """Decode a little, so that the first answer does not pay for what is made once."""
        prompt = self.target.model.tokenize(WARM_UP, special=True, begin=True)
        for _ in self.generate(prompt, draft_tokens=draft_tokens, max_tokens=max(1, draft_tokens) + 2):
            pass

    def generate(
        self,
        prompt: Sequence[int],
        *,
        draft_tokens: int = 0,
        max_tokens: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        reuse: bool = False,  # noqa: ARG002 - every prompt is read anew
        sampling: Sampling = GREEDY,
    ) -> Iterator[Round]:
        """As `backends.native.engine.Engine.generate`; a prompt that is being read cannot be stopped.

        Raises:
            ContextFull: prompt and answer do not fit; nothing was generated.
            UsageError: an empty prompt, or impossible sampling.
            RuntimeFailed: PyTorch failed.
        """
        sampling.check(self.target.model.size)
        wanted = Wanted(prompt, draft_tokens, self._limit(prompt, max_tokens), stopped, sampling)
        found: queue.SimpleQueue[Round | None] = queue.SimpleQueue()
        left: list[bool] = []

        def work() -> None:
            try:
                self._answer(wanted, Rounds(found, self._assistant), lambda: bool(left) or stopped())
            finally:
                found.put(None)

        done = self._thread.submit(work)
        try:
            while (one := found.get()) is not None:
                yield one
        finally:
            left.append(True)
        with _told("PyTorch"):
            done.result()

    def _limit(self, prompt: Sequence[int], max_tokens: int | None) -> int:
        """Tokens of the answer at most."""
        if not prompt:
            raise UsageError("the prompt is empty")
        context = self.target.context.tokens
        room = context - len(prompt)
        if room < 1 or (max_tokens or 0) > room:
            asked = f" and {max_tokens:,} are asked for" if max_tokens else ""
            raise ContextFull(
                f"the prompt has {len(prompt):,} tokens{asked}; the context of {context:,} must hold it and the answer",
                hint="shorten the prompt, ask for fewer tokens, or for a longer context",
            )
        return room if max_tokens is None else max_tokens

    def _answer(self, wanted: Wanted, rounds: Rounds, stopped: Callable[[], bool]) -> None:
        """On PyTorch's thread."""
        import torch  # noqa: PLC0415
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList  # noqa: PLC0415

        sampling = wanted.sampling
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        else:
            torch.seed()
        ids = torch.tensor([wanted.prompt], device=self._device)
        drafts: dict[str, Any] = {}
        if self._assistant and wanted.draft_tokens:
            self._assistant.begin(wanted.draft_tokens, sampled=not sampling.greedy)
            drafts["assistant_model"] = self._assistant.model
        settings = GenerationConfig(
            max_new_tokens=wanted.limit,
            **({} if sampling.greedy else {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}),
            eos_token_id=sorted(self.end),
            pad_token_id=min(self.end, default=0),
        )
        with torch.inference_mode():
            self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=settings,
                logits_processor=LogitsProcessorList([] if sampling.plain else [Shaped(sampling)]),
                stopping_criteria=StoppingCriteriaList([_stopping(stopped)]),
                streamer=rounds,
                **drafts,
            )

    def close(self) -> None:
        self._thread.shutdown()


class Rounds:
    """A streamer: each round of `generate` as a `Round`.

    Args:
        put: where they go.
        assistant: who counts the guesses; None where there are none.
    """

    def __init__(self, put: queue.SimpleQueue[Round | None], assistant: Assistant | None) -> None:
        self._rounds, self._assistant = put, assistant
        self._begun = False

    def put(self, value: Any) -> None:
        """Some tokens, any shape; the prompt comes first."""
        if not self._begun:
            self._begun = True
            return
        tokens = tuple(value.reshape(-1).tolist())
        drafted = self._assistant.taken() if self._assistant else 0
        # The last token is always the target's own.
        self._rounds.put(Round(tokens, drafted, min(drafted, len(tokens) - 1)))

    def end(self) -> None: ...


def _stopping(stopped: Callable[[], bool]) -> Any:
    """A criterion that asks `stopped` after every round."""
    import torch  # noqa: PLC0415

    def criterion(input_ids: Any, _scores: Any, **_: Any) -> Any:
        return torch.full((input_ids.shape[0],), stopped(), dtype=torch.bool, device=input_ids.device)

    return criterion


def _threads(count: int | None) -> None:
    import torch  # noqa: PLC0415

    from backends.native.engine import cores  # noqa: PLC0415

    torch.set_num_threads(count or cores())


def _loaded(folder: Path, device: str, dtype: str) -> Any:
    """A checkpoint's model on its device."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    with _told(f"the checkpoint in {folder}"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        return model.to(device).eval()


def _ends(model: Any) -> frozenset[int]:
    """Tokens that end an answer, as the checkpoint says."""
    found = model.generation_config.eos_token_id
    return frozenset((found,) if isinstance(found, int) else found or ())


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever PyTorch and Transformers raise, as one sentence.

    Raises:
        RuntimeFailed: that.
    """
    try:
        yield
    except AdvisorError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, MemoryError) or roots.SHORT.search(str(error)):
            raise RuntimeFailed(
                f"{what}: out of memory: {said}", hint="a shorter context or a smaller model needs less"
            ) from error
        raise RuntimeFailed(f"{what} failed: {said}") from error
