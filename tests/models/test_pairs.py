"""Pairs of texts: their segments stay with them, and a model without segments gets none."""

import copy
import pickle

import pytest
import torch
from byte_tokenizer import byte_tokenizer
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from distill_helpers.evaluation.measures import measure_latency
from distill_helpers.models.batching import TokenIds, encode_texts, inputs_for, model_batch, pad_batch, segments_of
from distill_helpers.models.text_models import TextClassifier, predict_logits

PAIRS = [("no sound", "check the mixer and the cable"), ("my mac shows a grey screen", "ok"), ("a", "b")]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def bert(small_tokenizer):
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=len(small_tokenizer), **SIZES, num_labels=3)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so large that a lost segment shows
            if parameter.dim() == 2:
                parameter.mul_(8)
    return TextClassifier(model, small_tokenizer)


def one_by_one(classifier, inputs):
    """What transformers itself makes of each input alone."""
    model, tokenizer = classifier
    rows = [tokenizer(*(given if isinstance(given, tuple) else (given,)), return_tensors="pt") for given in inputs]
    with torch.inference_mode():
        return torch.cat([model(**row).logits for row in rows])


def test_a_pair_keeps_its_segments_through_sorting_and_padding(bert):
    inputs = [*PAIRS, "a text alone", ("grey screen " * 3, "x")]
    expected = one_by_one(bert, inputs)
    for batch_size in (1, 2, 64):
        assert predict_logits(bert, inputs, batch_size=batch_size).allclose(expected, atol=1e-5)
    joined = [f"{first} {second}" for first, second in PAIRS]
    assert not predict_logits(bert, joined).allclose(expected[: len(PAIRS)], atol=1e-2)


def test_the_segments_of_a_pair_are_padded_with_it(small_tokenizer):
    encoded = encode_texts(small_tokenizer, [PAIRS[2], "a text alone"])
    assert segments_of(encoded[0]) == [0, 0, 0, 1, 1]
    assert segments_of(encoded[1]) is None
    for side in ("left", "right"):
        batch = pad_batch(encoded, small_tokenizer, side=side)
        padding = 6 - 5 if batch["input_ids"].shape[1] == 6 else batch["input_ids"].shape[1] - 5
        zeros = [0] * padding
        row = [0, 0, 0, 1, 1]
        assert batch["token_type_ids"][0].tolist() == (zeros + row if side == "left" else row + zeros)
        assert batch["token_type_ids"][1].sum() == 0
    assert set(pad_batch([[2, 3]], small_tokenizer)) == {"input_ids", "attention_mask"}


def test_token_ids_are_a_list_that_copies_with_its_segments():
    ids = TokenIds([5, 6], [0, 1])
    assert ids == [5, 6]
    for other in (copy.deepcopy(ids), copy.copy(ids), pickle.loads(pickle.dumps(ids))):
        assert other == ids
        assert segments_of(other) == [0, 1]


def test_the_longer_text_of_a_pair_is_cut_first(small_tokenizer):
    (ids,) = encode_texts(small_tokenizer, [("a b c d e f", "x")], 7)
    assert small_tokenizer.decode(ids) == "[CLS] a b c [SEP] x [SEP]"
    with pytest.raises(ValueError, match=r"max_length must be at least 5 for pairs \(3 special tokens and one of each"):
        encode_texts(small_tokenizer, [("a", "b")], 4)
    assert len(encode_texts(small_tokenizer, ["a b c"], 4)[0]) == 4


def test_a_tokenizer_that_puts_nothing_between_two_texts_is_refused():
    byte_level = byte_tokenizer(["ab c"])
    assert encode_texts(byte_level, ["ab c"])
    with pytest.raises(ValueError, match=r"puts nothing between the two texts of a pair, .* join the texts by a temp"):
        encode_texts(byte_level, [("ab", "c")])


@pytest.mark.parametrize("kind", ["distilbert", "roberta"])
def test_a_model_without_segments_reads_pairs_by_their_separator(small_tokenizer, kind):
    torch.manual_seed(0)
    n = len(small_tokenizer)
    if kind == "distilbert":
        sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
        model = DistilBertForSequenceClassification(DistilBertConfig(vocab_size=n, **sizes))
    else:
        config = RobertaConfig(vocab_size=n, **SIZES, pad_token_id=small_tokenizer.pad_token_id, type_vocab_size=1)
        model = RobertaForSequenceClassification(config)
    logits = predict_logits(TextClassifier(model.eval(), small_tokenizer), PAIRS)
    assert logits.isfinite().all()
    assert "token_type_ids" not in model_batch(model, encode_texts(small_tokenizer, PAIRS), small_tokenizer)


def test_segments_reach_a_model_inside_its_wrapper(bert):
    batch = pad_batch(encode_texts(bert.tokenizer, PAIRS), bert.tokenizer)
    assert "token_type_ids" in inputs_for(torch.nn.DataParallel(bert.model), batch)


def test_the_segments_of_xlnet_are_not_lost_for_single_texts(small_tokenizer):
    """XLNet's class token has a segment of its own, and no segments at all are another function there."""
    torch.manual_seed(0)
    config = XLNetConfig(vocab_size=50, d_model=16, n_layer=1, n_head=2, d_inner=16, pad_token_id=0)
    model = XLNetForSequenceClassification(config).eval()
    batch = model_batch(model, [TokenIds([5, 6, 7], [0, 0, 2]), TokenIds([6, 7], [0, 2])], small_tokenizer)
    assert batch["token_type_ids"][0].tolist() == [0, 0, 2]
    assert batch["token_type_ids"][1, 1:].tolist() == [0, 2]


def test_the_time_of_a_pair_can_be_measured(bert):
    assert measure_latency(bert, PAIRS, n_messages=2, warmup=1) > 0
