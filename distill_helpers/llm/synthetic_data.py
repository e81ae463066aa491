"""New training messages that a language model writes.

The recipe is the one that Phi-2's predecessors made known (Gunasekar et al., arXiv 2306.11644): a model writes, filters
keep what is worth learning (`message_filters`), and the student never meets the writer itself. Here the teacher judges
and labels what was written. A message that misses its topic therefore costs time, but no correctness.

    written = write_messages(load_language_model(), examples=splits.train, n_per_topic=100)
    logits = precompute_teacher_logits(teacher, [message.text for message in written])
    kept = filter_messages(written, logits, splits.label_names, known={"training": splits.train.texts})
    kept.messages, logits[kept.rows], kept.table
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tqdm.auto import tqdm

from distill_helpers.data.labelled_texts import LabelledTexts
from distill_helpers.llm.generation import end_tokens, plain_generation, takes_positions, written_after
from distill_helpers.llm.given_models import language_models
from distill_helpers.llm.padding import padded
from distill_helpers.llm.resumable_texts import WrittenBatches
from distill_helpers.llm.text_borders import prompt_token_ids
from distill_helpers.models.batching import evaluation_mode, to_device
from distill_helpers.models.text_models import LanguageModel
from distill_helpers.targets.cache import weights_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["SyntheticMessage", "list_prompt", "lower_case_words", "write_messages"]


class SyntheticMessage(NamedTuple):
    """A message, and the topic (a class name) that the writer was asked for. The teacher decides what it is about."""

    text: str
    topic: str


def lower_case_words(text: str, n_words: int | None = 26) -> str:
    """The text in the form of the help desk's messages: its first `n_words` words (None: all), letters a to z only."""
    return " ".join(re.findall("[a-z]+", text.lower())[:n_words])


def list_prompt(description: str, examples: Sequence[str]) -> str:
    """The beginning of a list of messages, which a language model then continues: a heading and a line per example.

    Small models that were trained to chat answer a request for one more message with talk about messages. To continue a
    list, on the other hand, is what every language model has learnt.
    """
    return f"Messages that people wrote to a help desk about {description}:\n" + "".join(f"- {e}\n" for e in examples)


def write_messages(
    language_model: LanguageModel | PreTrainedModel,
    examples: LabelledTexts,
    n_per_topic: int,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    topics: Mapping[str, str] | Sequence[str] | None = None,
    examples_per_prompt: int = 8,
    opening_words: int = 3,
    max_new_tokens: int = 40,
    temperature: float = 0.8,
    top_k: int = 50,
    batch_size: int = 32,
    normalise: Callable[[str], str] = lower_case_words,
    seed: int = 0,
    file: str | Path | None = None,
    progress: bool = True,
) -> list[SyntheticMessage]:
    """Let a language model write messages about each topic. It continues lists of real messages.

    A batch has one topic and one prompt, with examples drawn for this prompt. The model reads the prompt once, and all
    messages of the batch continue it. On a CPU this is several times faster than to read it for each message. The
    topics take turns.

    Args:
        language_model: as from `load_language_model`, or a bare model with its `tokenizer`. It stays on its device. Of
            its own generation settings only the end tokens are used.
        examples: the *training* messages, from which examples and openings are drawn.
        n_per_topic: the number of messages to write about each topic. The few that come out empty are left out.
        tokenizer: the model's own. Needed with a bare model, refused with a `LanguageModel`.
        topics: class names, or a mapping from class names to the words that describe them in the prompt. Default: all
            classes, by name.
        examples_per_prompt: the number of real messages in a prompt.
        opening_words: each new message begins with so many first words of a real message that the prompt does not show.
            The openings keep a small model on its topic, and make the messages differ. With 0 the model begins freely.
        max_new_tokens: the largest number of tokens to write. A message also ends with its line.
        temperature, top_k: of the sampling. There is no `top_p`: sorting the whole vocabulary for it costs a small
            model on a CPU a quarter of its time.
        batch_size: the number of messages that are written together.
        normalise: brings a text into the form of the training messages; default the help desk's.
        seed: the messages are a function of the seed and of the other settings, `batch_size` included.
        file: each finished batch is added to this file. After an interruption, call the function again with the same
            arguments: it writes only what is missing. `n_per_topic` may have grown by whole batches.
        progress: show a progress bar.

    Raises:
        ValueError: a number is out of range, a topic is unknown or has too few examples, a bare model comes without its
            tokenizer, or `file` was written with other settings.
        TypeError: the model is not a causal language model.
    """
    language_model = language_models(language_model, tokenizer=tokenizer)[0]
    at_least = {
        "n_per_topic": (n_per_topic, 1),
        "examples_per_prompt": (examples_per_prompt, 1),
        "opening_words": (opening_words, 0),
        "max_new_tokens": (max_new_tokens, 1),
        "batch_size": (batch_size, 1),
        "top_k": (top_k, 1),
    }
    for name, (number, least) in at_least.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    model, tokenizer = language_model
    descriptions = _descriptions(examples.label_names if topics is None else topics)
    pools = {topic: _pool(examples, topic, examples_per_prompt + 1) for topic in descriptions}
    sampling = {"do_sample": True, "temperature": temperature, "top_k": top_k, "max_new_tokens": max_new_tokens}
    stops = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
    stops += [token for token in end_tokens(language_model) if token not in stops]
    settings = [sampling, descriptions, pools, examples_per_prompt, opening_words, batch_size, seed, stops]
    batches = WrittenBatches(file, lambda: [weights_fingerprint(model), *settings])

    written: list[SyntheticMessage] = []
    with (
        evaluation_mode(model),
        tqdm(total=n_per_topic * len(pools), desc="Messages", unit="msg", disable=not progress) as bar,
    ):
        for start in range(0, n_per_topic, batch_size):
            for topic, pool in pools.items():
                size = min(batch_size, n_per_topic - start)
                rng = random.Random(f"{seed} {topic} {start}")
                shown = rng.sample(range(len(pool)), examples_per_prompt)
                prompt = list_prompt(descriptions[topic], [pool[i] for i in shown])
                rest = [i for i in range(len(pool)) if i not in shown]
                rng.shuffle(rest)
                begun = [pool[rest[i % len(rest)]] for i in range(size)]
                openings = [" ".join(text.split()[:opening_words]) for text in begun]
                write = partial(_continue, language_model, prompt, openings, stops, rng.getrandbits(63), sampling)
                texts = map(normalise, batches.read_or_write(f"{topic} {start}+{size}", write))
                written += [SyntheticMessage(text, topic) for text in texts if text.strip()]
                bar.update(size)
    return written


def _descriptions(topics: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    named = dict(topics) if isinstance(topics, Mapping) else {topic: topic for topic in topics}
    if isinstance(topics, str) or not named:
        raise ValueError("pass one or more topics, or a mapping from topics to descriptions")
    return named


def _pool(examples: LabelledTexts, topic: str, needed: int) -> list[str]:
    """The examples of a topic, each on a single line as the prompt needs them."""
    if topic not in examples.label_names:
        raise ValueError(f"unknown topic {topic!r}; the classes of the examples are {list(examples.label_names)}")
    label = examples.label_names.index(topic)
    pairs = zip(examples.texts, examples.labels, strict=True)
    pool = [" ".join(text.split()) for text, its_label in pairs if its_label == label]
    if len(pool) < needed:
        raise ValueError(f"topic {topic!r} has {len(pool)} examples, {needed} are needed; show fewer in a prompt")
    return pool


@torch.inference_mode()
def _continue(
    writer: LanguageModel,
    prompt: str,
    openings: Sequence[str],
    stops: Sequence[int],
    seed: int,
    sampling: Mapping[str, Any],
) -> list[str]:
    """Each opening, and what the model writes after prompt, dash and opening, up to the end of the line."""
    model, tokenizer = writer
    prefix = torch.tensor(prompt_token_ids(tokenizer, [prompt]), device=model.device)
    # The openings have different lengths. The padding stands between the prompt and them, and the mask hides it.
    opened = [tokenizer(f"- {o}".rstrip(), add_special_tokens=False)["input_ids"] for o in openings]
    if not takes_positions(writer):  # such a model would notice the padding
        whole = [[*prefix[0].tolist(), *opening] for opening in opened]
        rest = written_after(writer, whole, ends=stops, seed=seed, **sampling)
        lines = tokenizer.batch_decode([o + r for o, r in zip(opened, rest, strict=True)], skip_special_tokens=True)
        return [_message(line) for line in lines]
    tails = to_device(padded(opened, tokenizer, side="left"), model.device)
    ids = torch.cat([prefix.expand(len(openings), -1), tails["input_ids"]], dim=1)
    mask = torch.cat([torch.ones_like(ids[:, : prefix.shape[1]]), tails["attention_mask"]], dim=1)
    cache = model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(len(openings))
    with plain_generation(writer, ends=stops, seed=seed, **sampling) as generate:
        output = generate(input_ids=ids, attention_mask=mask, past_key_values=cache)
    # Decoded together with the opening: some tokenizers drop the blank before the first word that they decode.
    lines = tokenizer.batch_decode(output[:, prefix.shape[1] :], skip_special_tokens=True)
    return [_message(line) for line in lines]


def _message(line: str) -> str:
    """What stands between the dash and the end of the line."""
    return line.lstrip().removeprefix("-").lstrip(" ").split("\n")[0]
