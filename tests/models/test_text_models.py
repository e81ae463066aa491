"""Models with their tokenizers: logits and predictions on real messages and a small random model."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from distill_helpers.models.batching import encode_texts
from distill_helpers.models.text_models import (
    LanguageModel,
    TextClassifier,
    label_names_of,
    label_options,
    predict_logits,
)
from distill_helpers.students.creation import create_transformer


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


# Logits


@pytest.mark.parametrize("batch_size", [1, 4, 7, 30, 64])
def test_logits_come_in_the_order_of_the_texts_whatever_the_batch_size(
    model, tokenizer, messages, one_by_one, batch_size
):
    logits = predict_logits(TextClassifier(model, tokenizer), messages, batch_size=batch_size)
    torch.testing.assert_close(logits, one_by_one, rtol=1e-5, atol=1e-5)
    # The comparison can tell: no two messages are that close.
    distances = torch.cdist(one_by_one, one_by_one) + torch.eye(len(messages))
    assert distances.min() > 1e-3


def test_logits_are_fp32_on_the_cpu_and_free_of_the_graph(model, tokenizer, messages):
    half = copy.deepcopy(model).bfloat16()
    logits = predict_logits(TextClassifier(half, tokenizer), messages[:3])
    assert (logits.dtype, logits.device.type, logits.requires_grad) == (torch.float32, "cpu", False)
    assert logits.shape == (3, 3)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_uses_no_dropout_and_restores_the_mode(model, tokenizer, messages, one_by_one, training):
    own_model = copy.deepcopy(model).train(training)
    logits = predict_logits(TextClassifier(own_model, tokenizer), messages)
    torch.testing.assert_close(logits, one_by_one, rtol=1e-5, atol=1e-5)
    assert own_model.training is training


def test_prediction_truncates(model, tokenizer, messages):
    short = predict_logits(TextClassifier(model, tokenizer), messages, max_length=6)
    cut = [tokenizer.decode(ids[1:-1]) for ids in encode_texts(tokenizer, messages, 6)]
    torch.testing.assert_close(short, predict_logits(TextClassifier(model, tokenizer), cut), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(short, predict_logits(TextClassifier(model, tokenizer), messages), atol=1e-3)


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_only_when_it_is_asked_for(model, tokenizer, messages, capsys, progress):
    predict_logits(TextClassifier(model, tokenizer), messages, progress=progress)
    shown = capsys.readouterr().err
    assert ("Predicting" in shown) == progress
    assert (shown == "") == (not progress)


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
        predict_logits(TextClassifier(model, tokenizer), texts, **options)


def test_the_training_mode_comes_back_even_when_the_forward_pass_fails(model, tokenizer):
    model.train()
    hook = model.register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):
            predict_logits(TextClassifier(model, tokenizer), ["a text"])
        assert model.training
    finally:
        hook.remove()
        model.eval()


# Predictions by name


def test_a_prediction_names_the_most_probable_class_and_gives_every_probability(model, tokenizer, messages, one_by_one):
    table = TextClassifier(model, tokenizer).predict(messages, batch_size=4)
    assert list(table.columns) == ["label", "a", "b", "c"]
    assert list(table.index) == list(range(len(messages)))
    expected = one_by_one.double().softmax(dim=-1)
    torch.testing.assert_close(torch.tensor(table[["a", "b", "c"]].to_numpy()), expected, rtol=1e-5, atol=1e-6)
    assert list(table["label"]) == ["abc"[index] for index in expected.argmax(dim=-1)]
    assert table["label"].nunique() > 1  # else the order of the rows would not show
    assert table[["a", "b", "c"]].sum(axis="columns").to_numpy() == pytest.approx(1, abs=1e-9)


def test_a_prediction_reads_as_much_of_a_text_as_it_is_told_to(model, tokenizer, messages):
    classifier = TextClassifier(model, tokenizer)
    short = classifier.predict(messages, max_length=6)
    expected = predict_logits(classifier, messages, max_length=6).double().softmax(dim=-1)
    assert short["b"].tolist() == pytest.approx(expected[:, 1].tolist())
    assert short["b"].tolist() != pytest.approx(classifier.predict(messages)["b"].tolist(), abs=1e-3)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "non-empty list"),
        (["hello", " "], {}, "row 1.*empty"),
        (["hello"], {"batch_size": 0}, "batch_size.*got 0"),
    ],
)
def test_a_prediction_refuses_bad_arguments(model, tokenizer, texts, options, message):
    with pytest.raises(ValueError, match=message):
        TextClassifier(model, tokenizer).predict(texts, **options)


def test_a_class_that_is_called_label_has_no_column_of_its_own(tokenizer):
    model = create_transformer(("label", "other"), len(tokenizer), hidden_size=32)
    with pytest.raises(ValueError, match=r"one of the classes is called `label`.*use `predict_logits`"):
        TextClassifier(model, tokenizer).predict(["hello"])


# Names of classes


def test_label_names_are_in_the_order_of_the_logits(make_classifier):
    model = make_classifier().model
    model.config.id2label = {2: "third", 0: "first", 1: "second"}
    assert label_names_of(model) == ("first", "second", "third")
    assert TextClassifier(model, None).label_names == ("first", "second", "third")


def test_label_options():
    assert label_options(["b", "a"]) == {"num_labels": 2, "id2label": {0: "b", 1: "a"}, "label2id": {"b": 0, "a": 1}}


@pytest.mark.parametrize("names", [("one",), ("twice", "other", "twice"), ()])
def test_label_options_need_two_distinct_names(names):
    with pytest.raises(ValueError, match="two or more distinct label names, got") as error:
        label_options(names)
    assert str(list(names)) in str(error.value)


# One line in a notebook


def test_a_classifier_is_shown_in_one_line(make_classifier):
    model, tokenizer = make_classifier()
    size = f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    shown = f"TextClassifier(BertForSequenceClassification, 5 classes, {size} parameters, cpu)"
    assert repr(TextClassifier(model, tokenizer)) == shown
    assert repr(TextClassifier(model, None)) == shown  # of images, for instance


def test_a_language_model_is_shown_in_one_line(tokenizer):
    config = LlamaConfig(
        vocab_size=1200, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    size = f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    assert (
        repr(LanguageModel(model, tokenizer))
        == f"LanguageModel(LlamaForCausalLM, 1,200 tokens, {size} parameters, cpu)"
    )
