"""From texts to padded batches and logits, on real messages and a small random model."""

import copy

import pytest
import torch
from transformers import AutoTokenizer, BertTokenizer

from distill_helpers.data.corpora import load_help_desk
from distill_helpers.models.batching import encode_texts, pad_batch, predict_logits
from distill_helpers.models.loading import base_encoder_path
from distill_helpers.students.creation import create_transformer, trim_vocabulary


@pytest.fixture(scope="module")
def messages():
    """Real messages cut to 1 to 26 words, so that their order is not that of their lengths."""
    texts = load_help_desk().validation.texts[:30]
    return [" ".join(text.split()[: 1 + (7 * i) % 26]) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def tokenizer(messages):
    trimmed, _ = trim_vocabulary(AutoTokenizer.from_pretrained(base_encoder_path()), messages, size=400)
    trimmed.model_max_length = 64
    return trimmed


@pytest.fixture(scope="module")
def model(tokenizer):
    model = create_transformer(("a", "b", "c"), len(tokenizer), hidden_size=32, dropout=0.3)
    # At their initial scale the logits of all messages agree to the fifth digit; no mix-up would show.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.dim() > 1 else 1)
    return model


@pytest.fixture(scope="module")
def one_by_one(model, tokenizer, messages):
    """The reference: every message alone, straight through transformers."""
    with torch.inference_mode():
        rows = [model(**tokenizer(m, return_tensors="pt", return_token_type_ids=False)).logits[0] for m in messages]
    return torch.stack(rows)


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


# Prediction


@pytest.mark.parametrize("batch_size", [1, 4, 7, 30, 64])
def test_logits_come_in_the_order_of_the_texts_whatever_the_batch_size(
    model, tokenizer, messages, one_by_one, batch_size
):
    logits = predict_logits(model, tokenizer, messages, batch_size=batch_size)
    torch.testing.assert_close(logits, one_by_one, rtol=1e-5, atol=1e-5)
    # The comparison can tell: no two messages are that close.
    distances = torch.cdist(one_by_one, one_by_one) + torch.eye(len(messages))
    assert distances.min() > 1e-3


def test_logits_are_fp32_on_the_cpu_and_free_of_the_graph(model, tokenizer, messages):
    half = copy.deepcopy(model).bfloat16()
    logits = predict_logits(half, tokenizer, messages[:3])
    assert (logits.dtype, logits.device.type, logits.requires_grad) == (torch.float32, "cpu", False)
    assert logits.shape == (3, 3)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_uses_no_dropout_and_restores_the_mode(model, tokenizer, messages, one_by_one, training):
    own_model = copy.deepcopy(model).train(training)
    logits = predict_logits(own_model, tokenizer, messages)
    torch.testing.assert_close(logits, one_by_one, rtol=1e-5, atol=1e-5)
    assert own_model.training is training


def test_prediction_truncates(model, tokenizer, messages):
    short = predict_logits(model, tokenizer, messages, max_length=6)
    cut = [tokenizer.decode(ids[1:-1]) for ids in encode_texts(tokenizer, messages, 6)]
    torch.testing.assert_close(short, predict_logits(model, tokenizer, cut), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(short, predict_logits(model, tokenizer, messages), atol=1e-3)


@pytest.mark.parametrize("progress", [None, "Labelling"])
def test_progress_is_shown_only_when_it_is_asked_for(model, tokenizer, messages, capsys, progress):
    predict_logits(model, tokenizer, messages, progress=progress)
    shown = capsys.readouterr().err
    assert ("Labelling" in shown) == (progress is not None)
    assert (shown == "") == (progress is None)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["hello"], {"batch_size": 0}, "batch_size.*got 0"),
        (["hello"], {"batch_size": -1}, "batch_size.*got -1"),
        ([], {}, "non-empty list"),
        (["hello", ""], {}, "row 1.*empty"),
        (["hello"], {"max_length": 1}, "at least 3.*got 1"),
    ],
)
def test_prediction_refuses_bad_arguments(model, tokenizer, texts, options, message):
    with pytest.raises(ValueError, match=message):
        predict_logits(model, tokenizer, texts, **options)


def test_the_training_mode_comes_back_even_when_the_forward_pass_fails(model, tokenizer):
    model.train()
    hook = model.register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):
            predict_logits(model, tokenizer, ["a text"])
        assert model.training
    finally:
        hook.remove()
        model.eval()
