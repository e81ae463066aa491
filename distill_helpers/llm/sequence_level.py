"""Sequence-level distillation: the teacher writes whole completions, and the student learns them as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from distill_helpers.data.labelled_texts import check_texts
from distill_helpers.llm.generation import continuations, end_tokens
from distill_helpers.llm.given_models import language_models
from distill_helpers.llm.resumable_texts import WrittenBatches
from distill_helpers.llm.seeds import derived_seed
from distill_helpers.llm.text_borders import continued_text, prompt_token_ids
from distill_helpers.models.batching import check_batch_size, rows_by_length
from distill_helpers.models.text_models import LanguageModel
from distill_helpers.targets.cache import weights_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Completions", "teacher_completions"]


class Completions(list[str]):
    """What a model wrote after each prompt: a list of texts, which also knows which of them are finished.

    Args:
        texts: the completions.
        finished: for each, whether the model ended it; False where it was cut at `max_new_tokens`.

    Raises:
        ValueError: the two have different lengths.

    Example:
        >>> from distill_helpers.llm import Completions
        >>> written = Completions([" a cat.", " a dog that"], [True, False])
        >>> written
        Completions(2 texts, 1 of them cut)
        >>> written[1:].finished
        [False]
    """

    def __init__(self, texts: Iterable[str], finished: Iterable[bool]) -> None:
        super().__init__(texts)
        self.finished = list(finished)
        if len(self) != len(self.finished):
            raise ValueError(f"there are {len(self)} texts, but finished has {len(self.finished)} entries")

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Completions(found, self.finished[index]) if isinstance(index, slice) else found

    def __reduce__(self) -> tuple[Any, ...]:
        return Completions, (list(self), self.finished)

    def __repr__(self) -> str:
        return f"Completions({len(self):,} texts, {self.finished.count(False):,} of them cut)"


def teacher_completions(
    teacher: LanguageModel | PreTrainedModel,
    prompts: Sequence[str],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    batch_size: int = 16,
    seed: int = 0,
    file: str | Path | None = None,
    progress: bool = True,
) -> Completions:
    """What the teacher writes after each prompt (Kim and Rush, arXiv 1606.07947, section 3.2).

    The paper uses the teacher's likeliest sequences, found by beam search. At temperature 0 these are its greedy
    sequences. The student may have another tokenizer, since it gets text. A teacher behind an API writes through
    `distill_helpers.api`.

    Of the teacher's own generation settings only the end tokens are used: penalties, top-k and the like would make it
    write from another distribution than its own.

    Args:
        teacher: a `LanguageModel`, or a bare model with its `tokenizer`. It stays on its device.
        prompts: as the teacher is to see them, with the markup of a chat template if there is one. A prompt that has
            its beginning of text already gets no second one.
        tokenizer: the teacher's own. Needed with a bare model, refused with a `LanguageModel`.
        max_new_tokens: the largest number of tokens to write; longer completions are cut there. A completion also ends
            with any of the teacher's end tokens (`generation.end_tokens`).
        temperature: of the sampling; 0 is greedy.
        batch_size: the number of prompts that are completed together. Prompts of similar length share a batch.
        seed: the completions are a function of the seed and of the other settings, `batch_size` included.
        file: each finished batch is added to this file. After an interruption, call the function again with the same
            arguments: it writes only what is missing.
        progress: show a progress bar.

    Returns:
        A completion for each prompt, in the order of the prompts, without its end token; prompt and completion join to
        what the teacher wrote, with the blank between them if there is one. A completion is empty if the teacher ended
        at once. The list's `finished` says which completions the teacher ended; the others were cut at
        `max_new_tokens`. `CompletionDataset.from_pairs` appends no end to these, or leaves them out.

    Raises:
        ValueError: there is no prompt or an empty one, a bare model comes without its tokenizer, a number is out of
            range, or `file` was written with other settings.
        TypeError: the teacher is not a causal language model.
    """
    teacher = language_models(teacher, tokenizer=tokenizer)[0]
    check_texts(prompts)
    check_batch_size(batch_size)
    tokenizer = teacher.tokenizer
    prompt_ids, ends = prompt_token_ids(tokenizer, prompts), end_tokens(teacher)
    settings = [prompt_ids, max_new_tokens, temperature, batch_size, seed, ends]
    batches = WrittenBatches(file, lambda: [weights_fingerprint(teacher.model), *settings])
    texts, finished = [""] * len(prompts), [False] * len(prompts)
    with tqdm(total=len(prompts), desc="Completions", unit="text", disable=not progress) as bar:
        for number, rows in enumerate(rows_by_length(prompt_ids, batch_size)):
            start = number * batch_size

            def write(rows: list[int] = rows, start: int = start) -> list[tuple[str, bool]]:
                batch = [prompt_ids[row] for row in rows]
                written = continuations(
                    teacher,
                    batch,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=derived_seed(seed, start),
                )
                ended = [ids[-1] in ends for ids in written]
                own = [ids[:-1] if end else ids for ids, end in zip(written, ended, strict=True)]
                pairs = zip(batch, own, strict=True)
                return list(zip((continued_text(tokenizer, *pair) for pair in pairs), ended, strict=True))

            for row, (text, end) in zip(rows, batches.read_or_write(str(start), write), strict=True):
                texts[row], finished[row] = text, end
            bar.update(len(rows))
    return Completions(texts, finished)
