"""Sequence-level distillation: the teacher writes whole completions, and the student learns them as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from distill_helpers.data.labelled_texts import check_texts
from distill_helpers.llm.on_policy import completed
from distill_helpers.llm.resumable_texts import WrittenBatches
from distill_helpers.llm.seeds import derived_seed
from distill_helpers.models.batching import check_batch_size
from distill_helpers.models.text_models import LanguageModel
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
    """What the teacher writes after each prompt (Kim and Rush, arXiv 1606.07947, section 3.2).

    The paper uses the teacher's likeliest sequences, found by beam search. At temperature 0 these are its greedy
    sequences. The student may have another tokenizer, since it gets text. A teacher behind an API writes through
    `distill_helpers.api`.

    Args:
        teacher: stays on its device.
        prompts: as the teacher is to see them, with the markup of a chat template if there is one.
        max_new_tokens: the largest number of tokens to write; longer completions are cut there. A completion also ends
            with the end-of-text token.
        temperature: of the sampling; 0 is greedy.
        batch_size: the number of prompts that are completed together. Prompts of similar length share a batch.
        seed: the completions are a function of the seed and of the other settings, `batch_size` included.
        file: each finished batch is added to this file. After an interruption, call the function again with the same
            arguments: it writes only what is missing.
        progress: show a progress bar.

    Returns:
        A completion for each prompt, in the order of the prompts. A completion is empty if the teacher ended at once.

    Raises:
        ValueError: there is no prompt or an empty one, a number is out of range, or `file` was written with other
            settings.
    """
    check_texts(prompts)
    check_batch_size(batch_size)
    tokenizer = teacher.tokenizer
    prompt_ids = tokenizer(list(prompts), return_attention_mask=False)["input_ids"]
    by_length = sorted(range(len(prompt_ids)), key=lambda i: len(prompt_ids[i]))
    settings = [list(prompts), max_new_tokens, temperature, batch_size, seed]
    batches = WrittenBatches(file, lambda: [weights_fingerprint(teacher.model), *settings])
    texts = [""] * len(prompts)
    with tqdm(total=len(prompts), desc="Completions", unit="text", disable=not progress) as bar:
        for start in range(0, len(by_length), batch_size):
            rows = by_length[start : start + batch_size]

            def write(rows: list[int] = rows, start: int = start) -> list[str]:
                batch = [prompt_ids[row] for row in rows]
                sequences = completed(
                    teacher,
                    batch,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=derived_seed(seed, start),
                )
                completions = [ids[len(prompt) :] for prompt, ids in zip(batch, sequences, strict=True)]
                return tokenizer.batch_decode(completions, skip_special_tokens=True)

            for row, text in zip(rows, batches.read_or_write(str(start), write), strict=True):
                texts[row] = text
            bar.update(len(rows))
    return texts
