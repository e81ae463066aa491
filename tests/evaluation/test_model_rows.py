"""One row for a model of each task. The figures themselves are tested where they are defined."""

import math
from types import SimpleNamespace

import pytest
import torch
from tiny_models import tiny_config
from transformers import AutoTokenizer, BertForSequenceClassification, BertForTokenClassification

from distill_helpers.data.labelled_texts import IGNORE_INDEX, LabelledTexts
from distill_helpers.evaluation.measures import classification_metrics, model_size
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.evaluation.task_metrics import multi_label_metrics, regression_metrics
from distill_helpers.models.loading import base_encoder_path
from distill_helpers.models.text_models import TextClassifier, predict_logits
from distill_helpers.models.word_predictions import predict_word_logits
from distill_helpers.students.vocabulary import trim_vocabulary
from distill_helpers.training.token_dataset import TokenClassificationDataset

TEXTS = ["no sound", "a grey screen on my mac", "the printer prints nothing", "windows", "sound and screen"]


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer, _ = trim_vocabulary(AutoTokenizer.from_pretrained(base_encoder_path()), TEXTS * 20, size=200)
    tokenizer.model_max_length = 32
    return tokenizer


def model_of(tokenizer, names, problem=None, kind=BertForSequenceClassification):
    torch.manual_seed(0)
    config = tiny_config("bert", len(tokenizer), 1)
    config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    config.problem_type = problem
    return TextClassifier(kind(config).eval(), tokenizer)


def data_of(labels, **others):
    return SimpleNamespace(texts=TEXTS, labels=labels, **others)


MATRIX = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0]]
SCORES = [0.5, 2.0, -1.0, 0.0, 1.0]


def test_a_multi_label_model_gets_the_figures_of_its_labels(tokenizer):
    model = model_of(tokenizer, ("audio", "video", "print"), "multi_label_classification")
    logits = predict_logits(model, TEXTS)
    teacher = logits.flip(0)
    row = evaluate(model, data_of(MATRIX, label_names=model.label_names), teacher_logits=teacher, batch_size=2)
    assert row == pytest.approx(multi_label_metrics(logits, MATRIX, teacher) | model_size(model.model), rel=1e-4)
    assert set(row) == {"micro_f1", "macro_f1", "subset_accuracy", "bce", "ece", "agreement", "parameters", "bytes"}


@pytest.mark.parametrize("teacher_shape", [(5,), (5, 1)])
def test_a_reranker_gets_errors_correlations_and_the_order_of_each_query(tokenizer, teacher_shape):
    model = model_of(tokenizer, ("score",))
    logits = predict_logits(model, TEXTS)
    positive, groups = [score + 1 for score in SCORES], ["a", "a", "b", "b", "b"]
    teacher = torch.arange(5.0).reshape(teacher_shape)
    row = evaluate(model, data_of(positive), teacher_logits=teacher, groups=groups, batch_size=2)
    expected = regression_metrics(logits[:, 0], positive, torch.arange(5.0), groups=groups)
    assert row == pytest.approx(expected | model_size(model.model), rel=1e-4)
    assert {"mse", "spearman", "teacher_spearman", "pairwise_accuracy", "ndcg"} <= set(row)


def test_several_scores_are_a_regression_where_the_configuration_says_so(tokenizer):
    model = model_of(tokenizer, ("a", "b", "c"), "regression")
    assert "pearson" in evaluate(model, data_of(torch.arange(15.0).reshape(5, 3)))


def test_timing_is_there_for_every_task_of_texts(tokenizer):
    row = evaluate(model_of(tokenizer, ("score",)), data_of(SCORES), timing=True)
    assert row["latency_ms"] > 0
    assert row["messages_per_s"] > 0


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_token_classifier_is_judged_on_its_labelled_tokens_whatever_the_padding(tokenizer, side, batch_size):
    model = model_of(tokenizer, ("O", "B", "I"), kind=BertForTokenClassification)
    items, logits, labels = [], [], []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        of_text = [IGNORE_INDEX, *(i % 3 for i in range(len(ids) - 2)), IGNORE_INDEX]
        items.append({"input_ids": ids, "labels": of_text})
        with torch.no_grad():
            logits.append(model.model(input_ids=torch.tensor([ids])).logits[0, 1:-1])
        labels += of_text[1:-1]
    before, tokenizer.padding_side = tokenizer.padding_side, side
    teacher = [torch.zeros(len(item["labels"]), 3) for item in items]
    try:
        row = evaluate(model, items, teacher_logits=teacher, batch_size=batch_size)
    finally:
        tokenizer.padding_side = before
    expected = classification_metrics(torch.cat(logits), labels, torch.cat([t[1:-1] for t in teacher]))
    assert row == pytest.approx(expected | model_size(model.model), rel=1e-4)


def test_the_mode_of_the_model_is_kept_and_dropout_is_off(tokenizer):
    model = model_of(tokenizer, ("O", "B"), kind=BertForTokenClassification)
    ids = tokenizer(TEXTS[1])["input_ids"]
    items = [{"input_ids": ids, "labels": [0] * len(ids)}]
    expected = evaluate(model, items)
    model.model.train()
    assert evaluate(model, items) == expected
    assert model.model.training


@pytest.mark.parametrize(
    ("names", "problem", "data", "options", "message"),
    [
        (("score",), None, LabelledTexts(TEXTS, [0] * 5, ("score",)), {}, "all labels of column 0 are 0"),
        (("score",), None, LabelledTexts(TEXTS, [0, 1, 0, 1, 0], ("no", "yes")), {}, "data's classes.*the model's"),
        (("score",), None, data_of([0.5, math.nan, 1, 2, 3]), {}, "row 1: the label"),
        (("score",), None, data_of([0.5]), {}, "5 texts and 1 labels"),
        (("a", "b", "c"), "multi_label_classification", data_of([0, 1, 2, 0, 1]), {}, r"\(5, 3\) and \(5,\)"),
        (("a", "b", "c"), "multi_label_classification", data_of(MATRIX), {"groups": TEXTS}, "groups rank scores"),
        (("a", "b", "c"), None, data_of(MATRIX), {}, r"class indices, one for.*\(5, 3\)"),
        (
            ("a", "b", "c"),
            None,
            data_of([0.0, 1.0, 2.0, 0.0, 1.0]),
            {},
            "class indices, one for.*float64",
        ),
        (("a", "b", "c"), None, [{"input_ids": [1], "labels": [0]}], {}, "texts and labels, got list"),
        (("a", "b", "c"), None, data_of([0] * 5), {"teacher_logits": [torch.zeros(3)] * 5}, "one tensor, got list"),
    ],
)
def test_data_of_another_task_are_refused(tokenizer, names, problem, data, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model_of(tokenizer, names, problem), data, **options)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (LabelledTexts(TEXTS, [0] * 5, ("O", "B")), {}, r"row 0: the text is one str.*`text.split\(\)`"),
        (SimpleNamespace(label_names=("B", "O")), {}, "data's classes are"),
        ([], {}, "one item or more"),
        ([{"input_ids": [2, 3]}], {}, "row 0: the item needs input_ids and labels"),
        ([{"input_ids": [2, 3], "labels": [0]}], {}, "row 0: 2 input_ids and 1 labels"),
        ([{"input_ids": [2, 3], "labels": [0, 2]}], {}, "label 2 is neither one of the 2 classes"),
        ([{"input_ids": [2, 3], "labels": [0, 1]}], {"max_length": 9}, "tokenised already"),
        ([{"input_ids": [2, 3], "labels": [0, 1]}], {"batch_size": 0}, "batch_size.*got 0"),
        ([{"input_ids": [2] * 41, "labels": [0] * 41}], {}, "row 0: the text has 41 tokens"),
    ],
)
def test_items_that_do_not_fit_a_token_classifier_are_refused(tokenizer, data, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model_of(tokenizer, ("O", "B"), kind=BertForTokenClassification), data, **options)


def test_a_token_classifier_is_judged_on_words_with_a_label_each(tokenizer):
    model = model_of(tokenizer, ("O", "B", "I"), kind=BertForTokenClassification)
    words = [text.split() for text in TEXTS]
    labels = [[(row + i) % 3 if i % 4 else IGNORE_INDEX for i in range(len(w))] for row, w in enumerate(words)]
    data = SimpleNamespace(texts=words, labels=labels)
    row = evaluate(model, data, teacher_logits=predict_word_logits(model, words))
    items = TokenClassificationDataset(words, labels, None, tokenizer)
    assert row.pop("agreement") == 1
    assert row == pytest.approx(evaluate(model, items), abs=1e-9)
    with pytest.raises(ValueError, match=r"row 0: \d+ words need a list of as many labels, got \[0\]"):
        evaluate(model, SimpleNamespace(texts=words, labels=[[0], *labels[1:]]))
    with pytest.raises(ValueError, match=r"lie beyond the model's max_length"):
        evaluate(model, data, max_length=4)
    with pytest.raises(ValueError, match="timing reads whole texts"):
        evaluate(model, data, timing=True)
