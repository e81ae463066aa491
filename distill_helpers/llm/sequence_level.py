"""Sequence-level distillation: the teacher writes whole completions, and the student learns them as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from distill_helpers.data.labelled_texts import check_texts
from distill_helpers.llm.on_policy import completed
from distill_helpers.llm.resumable_texts import WrittenBatches
from distill_helpers.models.loading import LanguageModel
from distill_helpers.targets.cache import weights_fingerprint

__all__ = ["teacher_completions"]


def teacher_completions(
    teacher: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    batch_size: int = 16,
    seed: int = 0,
    file: str | Path | None = None,
    progress: bool = True,
) -> list[str]:
    """What the teacher writes behind each prompt (Kim and Rush, arXiv 1606.07947, section 3.2).

    The paper's targets are the teacher's likeliest sequences, by beam search; at temperature 0 they are its greedy
    ones. The student's tokenizer may be another one: what passes from the one to the other is text. A teacher behind an
    API writes through `distill_helpers.api` instead.

    Args:
        teacher: used where it is.
        prompts: as the teacher is to see them, a chat template's marks included.
        max_new_tokens: at most so many; a completion also ends with the end-of-text token.
        temperature: of the sampling; 0 is greedy.
        batch_size: prompts of similar length that are completed together.
        seed: the completions are a function of it and of the other settings, `batch_size` included.
        file: each finished batch is added to it; called again with the same arguments after an interruption, only what
            is missing is written.
        progress: show a progress bar.

    Returns:
        A completion for each prompt, in their order; empty where the teacher ended at once.

    Raises:
        ValueError: no prompt or an empty one, numbers out of range, a `file` that other settings wrote.
    """
    check_texts(prompts)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    model, tokenizer = teacher
    encoded = tokenizer(list(prompts), return_attention_mask=False)["input_ids"]
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    settings = [list(prompts), max_new_tokens, temperature, batch_size, seed]
    batches = WrittenBatches(file, lambda: [weights_fingerprint(model), *settings])
    texts = [""] * len(prompts)
    with tqdm(total=len(prompts), desc="Completions", unit="text", disable=not progress) as bar:
        for start in range(0, len(by_length), batch_size):
            rows = by_length[start : start + batch_size]
            own = [encoded[row] for row in rows]

            def write(own: list[list[int]] = own, start: int = start) -> list[str]:
                sequences = completed(
                    model,
                    tokenizer,
                    own,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=seed * 1_000_003 + start,
                )
                written = [ids[len(prompt) :] for prompt, ids in zip(own, sequences, strict=True)]
                return tokenizer.batch_decode(written, skip_special_tokens=True)

            for row, text in zip(rows, batches.read_or_write(str(start), write), strict=True):
                texts[row] = text
            bar.update(len(rows))
    return texts
