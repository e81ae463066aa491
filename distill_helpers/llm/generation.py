"""How the package lets a language model write: a sample is a sample of the distribution that is distilled.

A model comes with settings for chatting: penalties, cut-offs such as top-k, forbidden and forced tokens, beams. Under
any of them the model writes from another distribution than the one that its logits define. None of them is used here,
except for the end tokens.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from distill_helpers.llm.padding import padded, padding_token
from distill_helpers.llm.seeds import seeded
from distill_helpers.models.batching import evaluation_mode, to_device
from distill_helpers.models.text_models import LanguageModel

__all__ = ["continuations", "end_tokens", "plain_generation", "takes_positions", "written_after"]


def end_tokens(model: LanguageModel) -> list[int]:
    """Every token that ends what the model writes.

    These are the end tokens of the tokenizer, of the model's configuration and of its generation settings together. A
    chat model often has two, the end of the text and the end of its turn, and names the second in one place alone.
    """
    config = model.model.config
    sources = (model.tokenizer, config, config.get_text_config(), getattr(model.model, "generation_config", None))
    found = (getattr(source, "eos_token_id", None) for source in sources)
    return sorted({int(token) for ids in found if ids is not None for token in torch.as_tensor(ids).flatten()})


def takes_positions(model: LanguageModel) -> bool:
    """Whether the model can be told the position of each token, so that padding on the left changes nothing."""
    inner: Any = model.model
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # PEFT hides the parameters
    return "position_ids" in inspect.signature(inner.forward).parameters


@contextlib.contextmanager
def plain_generation(
    model: LanguageModel, *, max_new_tokens: int, ends: Sequence[int], seed: int, **sampling: Any
) -> Iterator[Callable[..., Tensor]]:
    """Inside, the model's `generate` with the settings given here and no others.

    Args:
        model: in evaluation mode inside, and afterwards in the mode in which it came. Its own generation settings are
            put aside and come back.
        max_new_tokens: the largest number of tokens to write.
        ends: the tokens that end a text.
        seed: of the sampling. The global random state does not change.
        **sampling: `do_sample`, `temperature`, `top_k`.
    """
    from transformers import GenerationConfig

    neutral = {"top_k": 0, "top_p": 1.0} if sampling.get("do_sample") else {}
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=padding_token(model.tokenizer),
        bos_token_id=model.tokenizer.bos_token_id,
        **{"do_sample": False, **neutral, **sampling},
    )
    generate: Any = model.model.generate
    # Put aside and not only overridden: transformers takes from the model's own whatever a call leaves at None.
    owners: list[Any] = [module for module in model.model.modules() if "generation_config" in vars(module)]
    put_aside = [owner.generation_config for owner in owners]
    with evaluation_mode(model.model), seeded(seed, model.model.device):
        try:
            for owner in owners:
                owner.generation_config = settings
            yield lambda **inputs: generate(**inputs, generation_config=settings)
        finally:
            for owner, its_own in zip(owners, put_aside, strict=True):
                owner.generation_config = its_own


def continuations(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int = 0
) -> list[list[int]]:
    """The tokens that the model writes after each prompt, up to its end token, which is kept.

    A model that cannot be told positions reads only prompts of the same length together, without padding.

    Args:
        model: stays on its device and in its mode.
        prompts: the tokens of each.
        max_new_tokens: the largest number of tokens to write.
        temperature: of the sampling; at 0 the model takes the likeliest token each time.
        seed: of the sampling. The global random state does not change.

    Raises:
        ValueError: the temperature is below 0, there is no room for a token, or a prompt has no token (with its row).
    """
    if temperature < 0 or max_new_tokens < 1:
        raise ValueError(
            f"temperature must be at least 0 and max_new_tokens at least 1, got {temperature} and {max_new_tokens}"
        )
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {row} has no token that the model could continue; give it one")
    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature > 0 else {}
    return written_after(model, prompts, max_new_tokens=max_new_tokens, ends=end_tokens(model), seed=seed, **sampling)


def written_after(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, ends: Sequence[int], **settings: Any
) -> list[list[int]]:
    """`continuations` with the settings of `plain_generation`."""
    written: dict[int, list[int]] = {}
    with plain_generation(model, ends=ends, **settings) as generate:
        for rows in _read_together(model, prompts):
            batch = padded([prompts[row] for row in rows], model.tokenizer, side="left")
            output = generate(**to_device(batch, model.model.device))[:, batch["input_ids"].shape[1] :]
            written |= {row: _up_to_end(ids, ends) for row, ids in zip(rows, output.tolist(), strict=True)}
    return [written[row] for row in range(len(prompts))]


def _read_together(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows of prompts that can share a batch."""
    if takes_positions(model):
        return [list(range(len(prompts)))]
    by_length: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(row)
    return list(by_length.values())


def _up_to_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[: first + 1]
