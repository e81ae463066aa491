"""What counts of a prompt and its completion."""

import copy
import pickle

import pytest
import torch

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm import CompletionCollator, CompletionDataset, Completions
from distill_helpers.llm.token_level import completion_labels


def test_the_completion_counts_and_the_prompt_does_not(pairs, language_tokenizer, completions):
    for row, (prompt, completion) in enumerate(zip(*pairs, strict=True)):
        item = completions[row]
        own = [token for token, label in zip(item["input_ids"], item["labels"], strict=True) if label != IGNORE_INDEX]
        assert item["labels"][-len(own) :] == own
        whole = language_tokenizer(completion, add_special_tokens=False)["input_ids"]
        assert own[: len(whole)] == whole[: len(own)]
        assert own[-1] == language_tokenizer.eos_token_id or len(item["input_ids"]) == 40
        begun = [language_tokenizer.cls_token_id, *language_tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        assert item["input_ids"][: len(item["input_ids"]) - len(own)] == begun  # not its [SEP], which would end it
        assert completions.n_tokens[row] == len(own)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_has_no_label_on_either_side(completions, language_tokenizer, side, monkeypatch):
    monkeypatch.setattr(language_tokenizer, "padding_side", side)
    batch = CompletionCollator(language_tokenizer)([completions[row] for row in (0, 3)])
    short = len(completions[3]["input_ids"])
    assert batch["input_ids"].shape == batch["labels"].shape == (2, len(completions[0]["input_ids"]))
    own = batch["labels"][1][batch["attention_mask"][1].bool()]
    assert own.tolist() == completions[3]["labels"]
    assert len(own) == short
    assert (batch["labels"][1][~batch["attention_mask"][1].bool()] == IGNORE_INDEX).all()
    assert (batch["labels"] != IGNORE_INDEX).sum() == completions.n_tokens[0] + completions.n_tokens[3]


def test_plain_texts_are_learnt_whole_but_for_the_first_token(help_desk, language_tokenizer):
    data = CompletionDataset.from_texts(help_desk.train.texts[:3], language_tokenizer, max_length=20)
    assert data[0]["labels"] == [IGNORE_INDEX, *data[0]["input_ids"][1:]]
    assert data.n_tokens == [19, 19, 19]
    assert repr(data) == "CompletionDataset(3 sequences, 57 tokens to learn)"
    continued = CompletionDataset.from_texts(
        help_desk.train.texts[:3], language_tokenizer, prompt_tokens=6, max_length=20
    )
    assert continued[0]["labels"][:6] == [IGNORE_INDEX] * 6
    assert continued.n_tokens == [14, 14, 14]


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_padding_predicts_a_first_token(language_tokenizer, side, monkeypatch):
    monkeypatch.setattr(language_tokenizer, "padding_side", side)
    data = CompletionDataset.from_texts(["my screen is black", "help", "the mac"], language_tokenizer)
    batch = CompletionCollator(language_tokenizer)([data[row] for row in range(3)])
    assert len(completion_labels(batch["labels"])) == sum(data.n_tokens)


@pytest.mark.parametrize(
    ("token_ids", "prompts", "message"),
    [
        ([[1, 2, 3], [4, 5]], [1, 2], "row 1 has no completion"),
        ([[1, 2, 3], [4]], [1, 0], "row 1 has no completion"),
        ([[1, 2, 3]], [1, 0], "a prompt length for each"),
        ([], [], "a prompt length for each"),
    ],
)
def test_sequences_without_anything_to_learn_are_refused(token_ids, prompts, message, language_tokenizer):
    with pytest.raises(ValueError, match=message):
        CompletionDataset(token_ids, prompts, language_tokenizer)


def test_a_prompt_that_fills_the_length_and_empty_texts_are_refused(language_tokenizer):
    with pytest.raises(ValueError, match="row 0 has no completion"):
        CompletionDataset.from_pairs(["one two three four five six"], ["seven"], language_tokenizer, max_length=4)
    with pytest.raises(ValueError, match="empty"):
        CompletionDataset.from_pairs(["one"], [""], language_tokenizer)


def test_a_batch_holds_tensors(completions, language_tokenizer):
    batch = CompletionCollator(language_tokenizer)([completions[0]])
    assert {name: value.dtype for name, value in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels"), torch.int64
    )


def test_a_cut_completion_gets_no_end(language_tokenizer):
    end, completions = language_tokenizer.eos_token_id, Completions([" the screen", " no sound"], [False, True])
    data = CompletionDataset.from_pairs(["my mac", "windows"], completions, language_tokenizer)
    assert [ids[-1] == end for ids in data.token_ids] == [False, True]
    kept = CompletionDataset.from_pairs(["my mac", "windows"], completions, language_tokenizer, keep_cut=False)
    assert kept.token_ids == data.token_ids[1:]
    assert kept.prompt_lengths == data.prompt_lengths[1:]
    plain = CompletionDataset.from_pairs(
        ["my mac", "windows"], list(completions), language_tokenizer, finished=[True, False]
    )
    assert [ids[-1] == end for ids in plain.token_ids] == [True, False]
    with pytest.raises(ValueError, match="every completion was cut"):
        CompletionDataset.from_pairs(["my mac"], completions[:1], language_tokenizer, keep_cut=False)
    with pytest.raises(ValueError, match="2 prompts, 2 completions and 1 entries of finished"):
        CompletionDataset.from_pairs(["a", "b"], ["c", "d"], language_tokenizer, finished=[True])
    with pytest.raises(ValueError, match="2 prompts, 1 completions"):
        CompletionDataset.from_pairs(["a", "b"], ["c"], language_tokenizer)


def test_completions_are_texts_that_know_which_are_cut():
    completions = Completions(["one", "two", "three"], [True, False, True])
    assert completions == ["one", "two", "three"]
    assert completions[1] == "two"
    assert completions[1:].finished == [False, True]
    assert (
        copy.deepcopy(completions).finished == pickle.loads(pickle.dumps(completions)).finished == [True, False, True]
    )
    assert repr(completions) == "Completions(3 texts, 1 of them cut)"
    with pytest.raises(ValueError, match="3 texts, but finished has 1"):
        Completions(completions, [True])
