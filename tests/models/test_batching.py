"""From texts to padded batches, on real messages."""

import copy

import pytest
import torch
from transformers import BertTokenizer

from distill_helpers.models.batching import check_batch_size, encode_texts, pad_batch, to_device


@pytest.fixture
def own_tokenizer(tokenizer):
    """A copy that a test may change."""
    return copy.deepcopy(tokenizer)


# Encoding


def test_texts_are_encoded_with_special_tokens_and_without_padding(tokenizer, messages):
    encoded = encode_texts(tokenizer, messages)
    assert encoded == [tokenizer(message)["input_ids"] for message in messages]
    assert {(ids[0], ids[-1]) for ids in encoded} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
    assert len({len(ids) for ids in encoded}) > 10


@pytest.mark.parametrize("max_length", [3, 8, None])
def test_encoding_truncates_to_the_length_asked_for_or_the_tokenizers_own(own_tokenizer, messages, max_length):
    own_tokenizer.model_max_length = 12
    encoded = encode_texts(own_tokenizer, messages, max_length)
    assert max(map(len, encoded)) == (max_length or 12)
    assert all(ids[-1] == own_tokenizer.sep_token_id for ids in encoded)


def test_a_tokenizer_without_a_limit_truncates_nothing(tokenizer):
    unlimited = BertTokenizer(vocab=tokenizer.get_vocab())
    assert len(encode_texts(unlimited, ["a " * 2000])[0]) == 2002


@pytest.mark.parametrize(
    ("texts", "max_length", "message"),
    [
        ([], None, "non-empty list"),
        ("one message", None, "list of texts"),
        (["hello", "", "you"], None, "row 1.*empty"),
        (["hello", " \t"], None, "row 1.*empty"),
        (["hello", None], None, "row 1.*not a string"),
        (["hello"], 2, "at least 3.*got 2"),
        (["hello"], 0, "at least 3.*got 0"),
    ],
)
def test_texts_that_cannot_be_encoded_are_refused(tokenizer, texts, max_length, message):
    with pytest.raises(ValueError, match=message):
        encode_texts(tokenizer, texts, max_length)


# Padding


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [
        ("right", [[7, 8, 9], [5, 0, 0]], [[1, 1, 1], [1, 0, 0]]),
        ("left", [[7, 8, 9], [0, 0, 5]], [[1, 1, 1], [0, 0, 1]]),
    ],
)
def test_batches_are_padded_on_the_tokenizers_side_to_the_longest_row(own_tokenizer, side, ids, mask):
    own_tokenizer.padding_side = side
    batch = pad_batch([[7, 8, 9], [5]], own_tokenizer)
    assert own_tokenizer.pad_token_id == 0
    assert batch["input_ids"].tolist() == ids
    assert batch["attention_mask"].tolist() == mask
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_agrees_with_the_tokenizers_own(own_tokenizer, messages, side):
    own_tokenizer.padding_side = side
    expected = own_tokenizer(messages, padding="longest", return_tensors="pt")
    batch = pad_batch(encode_texts(own_tokenizer, messages), own_tokenizer)
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(batch[name], expected[name])


def test_the_padding_token_is_the_tokenizers(own_tokenizer):
    own_tokenizer.pad_token = "[MASK]"
    assert pad_batch([[7, 8], [5]], own_tokenizer)["input_ids"][1, 1] == own_tokenizer.mask_token_id


def test_a_tokenizer_without_padding_token_is_refused_with_the_remedy(own_tokenizer):
    own_tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"no padding token; set `tokenizer\.pad_token"):
        pad_batch([[7, 8], [5]], own_tokenizer)


# Helpers of a loop over batches


def test_a_batch_is_moved_to_the_device_and_loses_what_is_no_tensor():
    batch = {"input_ids": torch.tensor([[1]]), "labels": torch.tensor([2]), "texts": ["one"], "teacher_targets": None}
    moved = to_device(batch, torch.device("meta"))
    assert {name: tensor.device.type for name, tensor in moved.items()} == {"input_ids": "meta", "labels": "meta"}
    assert torch.equal(to_device(batch, torch.device("cpu"))["labels"], batch["labels"])


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_1_is_refused(batch_size):
    check_batch_size(1)
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}"):
        check_batch_size(batch_size)
