"""New training messages written by a language model, and the rules that decide which of them a student may see.

The recipe is the one that Phi-2's predecessors made known (Gunasekar et al., arXiv 2306.11644): a model writes, filters
keep what is worth learning from, and the student never meets the writer itself. Here the teacher judges and labels what
was written, so a message that misses its topic costs time, not correctness.

    written = write_messages(*load_language_model(), examples=splits.train, n_per_topic=100)
    logits = precompute_teacher_logits(teacher.model, [m.text for m in written], teacher.tokenizer)
    kept = filter_messages(written, logits, splits.label_names, known={"training": splits.train.texts})
    kept.messages, logits[kept.rows], kept.table
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill_helpers.data.labelled_texts import LabelledTexts, check_texts
from distill_helpers.data.near_duplicates import deduplicate, unlike
from distill_helpers.llm.resumable_texts import WrittenBatches
from distill_helpers.models.batching import check_finite, evaluation_mode, pad_batch
from distill_helpers.targets.cache import weights_fingerprint

__all__ = [
    "FilteredMessages",
    "SyntheticMessage",
    "filter_messages",
    "list_prompt",
    "lower_case_words",
    "write_messages",
]


class SyntheticMessage(NamedTuple):
    """A message and the topic (a class name) that it was asked to be about. Whether it is, the teacher decides."""

    text: str
    topic: str


class FilteredMessages(NamedTuple):
    """What the filters kept.

    Args:
        messages: the kept ones, in their order.
        rows: their rows (0-based) in what was filtered, to pick the teacher's logits by.
        table: a row for each rule in the order of their use, with the columns `removed` and `left`.
    """

    messages: list[SyntheticMessage]
    rows: list[int]
    table: pd.DataFrame


def lower_case_words(text: str, n_words: int | None = 26) -> str:
    """The text in the form of the help desk's messages: its first `n_words` words (None: all), letters a to z only."""
    return " ".join(re.findall("[a-z]+", text.lower())[:n_words])


def list_prompt(description: str, examples: Sequence[str]) -> str:
    """The beginning of a list of messages, which a language model then continues: a heading and a line per example.

    Small models that were trained to chat answer a request for one more message with talk about messages; continuing a
    list asks nothing of them but what every language model does.
    """
    return f"Messages that people wrote to a help desk about {description}:\n" + "".join(f"- {e}\n" for e in examples)


def write_messages(
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: LabelledTexts,
    n_per_topic: int,
    *,
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
    """Messages about each topic, continued from lists of real ones.

    A batch has one topic and one prompt, with examples drawn for it; the prompt is read once and all messages of the
    batch go on from there, which on a CPU is several times faster than reading it for each. The topics take turns.

    Args:
        language_model: a causal language model; used where it is.
        tokenizer: its own, padding on the left. `load_language_model` gives both.
        examples: the *training* messages, from which examples and openings are drawn.
        n_per_topic: messages to write about each topic. The few that come out empty are left out.
        topics: class names; a mapping also says how to describe them in the prompt. Default all classes by name.
        examples_per_prompt: real messages that a prompt shows.
        opening_words: a new message begins with the first words of a real one that the prompt does not show; 0 lets the
            model begin. Openings keep a small model on its topic and make the messages differ.
        max_new_tokens: at most so many tokens are written; a message also ends with its line.
        temperature, top_k: how boldly to sample, and from how many candidates. No `top_p`: to sort the whole vocabulary
            for it costs a small model on a CPU a quarter of its time.
        batch_size: messages that are written together.
        normalise: brings a text into the form of the training messages; default the help desk's.
        seed: the messages are a function of it and of the other settings, `batch_size` included.
        file: each finished batch is added to this file. Called again with the same arguments after an interruption,
            the function reads it and writes only what is missing; `n_per_topic` may have grown by whole batches.
        progress: show a progress bar.

    Raises:
        ValueError: numbers out of range, an unknown topic or one with too few examples, a tokenizer that pads on the
            right, or a `file` that other settings wrote.
    """
    for name, number, least in (
        ("n_per_topic", n_per_topic, 1),
        ("examples_per_prompt", examples_per_prompt, 1),
        ("opening_words", opening_words, 0),
        ("max_new_tokens", max_new_tokens, 1),
        ("batch_size", batch_size, 1),
        ("top_k", top_k, 1),
    ):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if tokenizer.padding_side != "left":
        raise ValueError("the tokenizer pads on the right; set `tokenizer.padding_side = 'left'`")
    descriptions = _descriptions(examples.label_names if topics is None else topics)
    pools = {topic: _pool(examples, topic, examples_per_prompt + 1) for topic in descriptions}
    sampling = {"do_sample": True, "temperature": temperature, "top_k": top_k, "max_new_tokens": max_new_tokens}
    settings = [sampling, descriptions, pools, examples_per_prompt, opening_words, batch_size, seed]
    batches = WrittenBatches(file, lambda: [weights_fingerprint(language_model), *settings])
    stops = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
    if tokenizer.eos_token_id is not None:
        stops.append(tokenizer.eos_token_id)

    written: list[SyntheticMessage] = []
    with (
        evaluation_mode(language_model),
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
                write = partial(
                    _continue, language_model, tokenizer, prompt, openings, stops, rng.getrandbits(63), sampling
                )
                lines = batches.read_or_write(f"{topic} {start}+{size}", write)
                texts = map(normalise, lines)
                written += [SyntheticMessage(text, topic) for text in texts if text.strip()]
                bar.update(size)
    return written


def filter_messages(
    messages: Sequence[SyntheticMessage],
    teacher_logits: Tensor,
    label_names: Sequence[str],
    *,
    known: Mapping[str, Sequence[str]],
    min_words: int = 8,
    max_words: int | None = None,
    min_distinct: float = 0.5,
    max_similarity: float = 0.8,
    min_confidence: float = 0.5,
    relabel: bool = False,
) -> FilteredMessages:
    """The messages that are worth learning from. Each rule sees what the rules before it have left.

    Args:
        messages: as `write_messages` returns them.
        teacher_logits: (messages, classes), from `precompute_teacher_logits`.
        label_names: the classes in the order of the logits.
        known: name and texts of each set that must not be repeated: the training messages, of which the prompts showed
            some, and validation and test messages, which the student must not have seen.
        min_words, max_words: length in words; None sets no upper limit.
        min_distinct: a smaller share of different words is a model that has got stuck in a loop.
        max_similarity: from this cosine on, two texts count as one, see `deduplicate`; against `known`, and among
            each other, where the first is kept.
        min_confidence: the teacher's probability (at T = 1) for the topic asked for. 0 keeps messages that came out
            about something else: their soft labels are right all the same.
        relabel: give each message the topic that the teacher finds likeliest, whatever was asked for, and let
            `min_confidence` be of that one. A small writer often misses its topic and writes a good message about
            another.

    Raises:
        ValueError: no message or an empty one, an unknown topic, logits of another shape or that are not finite,
            limits out of range.
    """
    texts = [message.text for message in messages]
    check_texts(texts)
    if teacher_logits.shape != (len(messages), len(label_names)):
        raise ValueError(
            f"teacher_logits has the shape {tuple(teacher_logits.shape)}, need ({len(messages)}, {len(label_names)})"
        )
    check_finite(teacher_logits, "label these messages again")
    if unknown := {message.topic for message in messages} - set(label_names):
        raise ValueError(f"unknown topic {min(unknown)!r}; the classes are {list(label_names)}")
    for name, share in (("min_distinct", min_distinct), ("min_confidence", min_confidence)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {share}")
    if min_words < 1 or (max_words is not None and max_words < min_words):
        raise ValueError(f"need 1 <= min_words <= max_words, got {min_words} and {max_words}")

    if relabel:
        likeliest = teacher_logits.argmax(dim=1).tolist()
        messages = [SyntheticMessage(text, label_names[i]) for text, i in zip(texts, likeliest, strict=True)]
    words = [text.split() for text in texts]
    asked = torch.tensor([list(label_names).index(message.topic) for message in messages])
    confidence = teacher_logits.softmax(dim=1).gather(1, asked[:, None]).flatten().tolist()

    def those(passes: Sequence[bool]) -> Callable[[list[int]], list[int]]:
        return lambda rows: [row for row in rows if passes[row]]

    def unlike_those(others: Sequence[str]) -> Callable[[list[int]], list[int]]:
        return lambda rows: [rows[i] for i in unlike([texts[row] for row in rows], others, max_similarity)]

    rules = {f"fewer than {min_words} words": those([len(w) >= min_words for w in words])}
    if max_words is not None:
        rules[f"more than {max_words} words"] = those([len(w) <= max_words for w in words])
    rules["repeats itself"] = those([len(set(w)) / len(w) >= min_distinct for w in words])
    rules |= {f"copies {name}": unlike_those(others) for name, others in known.items()}
    rules[f"teacher below {min_confidence:g}"] = those([p >= min_confidence for p in confidence])
    rules["near-duplicate"] = lambda rows: [rows[i] for i in deduplicate([texts[r] for r in rows], max_similarity)]

    rows = list(range(len(messages)))
    table = [("written", 0, len(rows))]
    for rule, apply in rules.items():
        before = len(rows)
        rows = apply(rows) if rows else rows
        table.append((rule, before - len(rows), len(rows)))
    frame = pd.DataFrame(table, columns=["rule", "removed", "left"]).set_index("rule")
    return FilteredMessages([messages[row] for row in rows], rows, frame)


def _descriptions(topics: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    named = dict(topics) if isinstance(topics, Mapping) else {topic: topic for topic in topics}
    if isinstance(topics, str) or not named:
        raise ValueError("pass one or more topics, or a mapping of topics to descriptions")
    return named


def _pool(examples: LabelledTexts, topic: str, needed: int) -> list[str]:
    if topic not in examples.label_names:
        raise ValueError(f"unknown topic {topic!r}; the classes of the examples are {list(examples.label_names)}")
    label = examples.label_names.index(topic)
    # A line each in the prompt.
    pool = [" ".join(text.split()) for text, own in zip(examples.texts, examples.labels, strict=True) if own == label]
    if len(pool) < needed:
        raise ValueError(f"topic {topic!r} has {len(pool)} examples, {needed} are needed; show fewer in a prompt")
    return pool


@torch.inference_mode()
def _continue(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    openings: Sequence[str],
    stops: Sequence[int],
    seed: int,
    sampling: Mapping[str, Any],
) -> list[str]:
    """Each opening, and what the model writes behind the prompt, a dash and it, to the end of the line."""
    prefix = torch.tensor([tokenizer(prompt)["input_ids"]], device=model.device)
    # The openings have different lengths: padding stands between the prompt and them, and the mask hides it.
    tails = pad_batch(
        [tokenizer(f"- {o}".rstrip(), add_special_tokens=False)["input_ids"] for o in openings], tokenizer
    )
    ids = torch.cat([prefix.expand(len(openings), -1), tails["input_ids"].to(model.device)], dim=1)
    mask = torch.cat([torch.ones_like(ids[:, : prefix.shape[1]]), tails["attention_mask"].to(model.device)], dim=1)
    cache = model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(len(openings))
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        generate: Any = model.generate
        output = generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            eos_token_id=list(stops),
            pad_token_id=tokenizer.pad_token_id,
            **sampling,
        )
    # Decoded together with the opening: some tokenizers drop the blank before the first word that they decode.
    lines = tokenizer.batch_decode(output[:, prefix.shape[1] :], skip_special_tokens=True)
    return [line.lstrip().removeprefix("-").lstrip(" ").split("\n")[0] for line in lines]
