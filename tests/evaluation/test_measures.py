"""Every figure of the evaluation against a value worked out by hand."""

import copy
import math
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.testing._internal.two_tensor import TwoTensor
from transformers import AutoTokenizer

from distill_helpers.data.corpora import HELP_DESK_QUEUES, load_help_desk
from distill_helpers.data.labelled_texts import LabelledTexts
from distill_helpers.evaluation.measures import (
    agreement,
    classification_metrics,
    compare,
    expected_calibration_error,
    measure_latency,
    measure_throughput,
    model_size,
)
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.models.loading import base_encoder_path
from distill_helpers.models.text_models import TextClassifier, predict_logits
from distill_helpers.students.creation import create_transformer
from distill_helpers.students.vocabulary import trim_vocabulary


@pytest.fixture(scope="module")
def messages():
    return load_help_desk().validation.subset(range(40))


@pytest.fixture(scope="module")
def classifier(messages):
    tokenizer, _ = trim_vocabulary(AutoTokenizer.from_pretrained(base_encoder_path()), messages.texts, size=400)
    tokenizer.model_max_length = 64
    return TextClassifier(create_transformer(HELP_DESK_QUEUES, len(tokenizer), hidden_size=32), tokenizer)


def one_confident(confidence, right):
    """Two-class probabilities with this confidence, and a label that makes the prediction right or wrong."""
    return [confidence, 1 - confidence], 0 if right else 1


# Figures by hand

# Four messages, three classes. Predicted 0, 0, 1, 1; true 0, 1, 1, 1. Nobody predicts or has class 2.
PROBABILITIES = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2]])
TRUE = [0, 1, 1, 1]


def test_accuracy_f1_and_nll_equal_values_worked_out_by_hand():
    row = classification_metrics(PROBABILITIES.log() + 3.0, TRUE)  # a constant changes no softmax
    assert row["accuracy"] == 0.75
    # Class 0: precision 1/2, recall 1; class 1: precision 1, recall 2/3; class 2 has nothing and counts as 0.
    assert row["macro_f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert row["nll"] == pytest.approx(-(math.log(0.7) + math.log(0.4) + math.log(0.8) + math.log(0.6)) / 4, rel=1e-5)
    assert row["ece"] == pytest.approx(expected_calibration_error(PROBABILITIES.numpy(), TRUE), rel=1e-5)
    assert "agreement" not in row


def test_a_class_missing_from_the_labels_breaks_no_figure():
    row = classification_metrics(PROBABILITIES.log(), [0, 0, 0, 0])
    assert row["accuracy"] == 0.5
    assert row["nll"] == pytest.approx(-(math.log(0.7) + math.log(0.5) + math.log(0.1) + math.log(0.2)) / 4, rel=1e-5)


def test_half_precision_logits_are_evaluated_without_loss_of_their_own():
    logits = PROBABILITIES.log().bfloat16()
    row, same = classification_metrics(logits, TRUE), classification_metrics(logits.double(), TRUE)
    assert row == pytest.approx(same)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 3), [0], r"\(2, 3\), 1"),
        (torch.zeros(3), [0, 1, 2], r"\(3,\), 3"),
        (torch.zeros(2, 3, 4), [0, 1], r"\(2, 3, 4\), 2"),
        (torch.zeros(0, 3), [], r"\(0, 3\), 0"),
        (torch.tensor([[0.0, math.nan]]), [0], "not finite"),
        (torch.tensor([[0.0, math.inf]]), [0], "not finite"),
        (torch.zeros(2, 1), [0, 0], "single class, which is always predicted.*regression_metrics"),
        (torch.zeros(2, 3), [0, 3], "row 1: label 3 is none of the 3 classes"),
        (torch.zeros(2, 3), [-100, 2], "row 0: label -100.*leave out"),
        (torch.zeros(2, 3), [0.0, 1.0], "class indices, one for each text, got float64"),
        (torch.zeros(2, 3), [0, math.nan], "class indices, one for each text, got float64"),
        (torch.zeros(2, 3), [[0], [1]], r"class indices.*\(2, 1\); `multi_label_metrics`"),
    ],
)
def test_logits_that_cannot_be_evaluated_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(logits, labels)


def test_agreement_is_the_share_of_equal_classes_whoever_is_right():
    student = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 0.0, 1.0], [5.0, 1.0, 1.0]])
    teacher = torch.tensor([[9.0, 0.0, 0.0], [4.0, 3.0, 1.0], [0.0, 0.2, 0.3], [5.0, 9.0, 1.0]])
    assert agreement(student, teacher) == 0.5
    assert agreement(student, student) == 1
    assert classification_metrics(student, [1, 1, 1, 1], teacher)["agreement"] == 0.5


def test_agreement_refuses_logits_of_another_shape():
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 5\)"):
        agreement(torch.zeros(4, 3), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="single class"):
        agreement(torch.zeros(4, 1), torch.ones(4, 1))
    with pytest.raises(ValueError, match="not finite"):
        agreement(torch.zeros(4, 2), torch.full((4, 2), math.nan))
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(1, 3\)"):  # would broadcast
        classification_metrics(torch.zeros(4, 3), [0, 1, 2, 0], torch.zeros(1, 3))


# Calibration


@pytest.mark.parametrize(
    ("n_bins", "expected"),
    [
        # Bin (0.8, 0.9]: half right at confidence 0.9. Bin (0.5, 0.6]: all right at 0.6. Two of four messages each.
        (10, 0.5 * abs(0.5 - 0.9) + 0.5 * abs(1 - 0.6)),
        # One bin: three of four right at a mean confidence of 0.75, and the two errors cancel.
        (1, 0.0),
    ],
)
def test_ece_equals_a_tiny_case_worked_out_by_hand(n_bins, expected):
    rows = [one_confident(0.9, True), one_confident(0.9, False), one_confident(0.6, True), one_confident(0.6, True)]
    probabilities, labels = (list(part) for part in zip(*rows, strict=True))
    assert expected_calibration_error(np.array(probabilities), labels, n_bins) == pytest.approx(expected)


def test_ece_is_zero_for_perfect_calibration_and_one_for_certain_error():
    rows = [one_confident(0.8, i < 8) for i in range(10)] + [one_confident(0.6, i < 6) for i in range(10)]
    rows += [one_confident(1.0, True)] * 5
    probabilities, labels = (list(part) for part in zip(*rows, strict=True))
    assert expected_calibration_error(np.array(probabilities), labels) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(np.array([[1.0, 0.0]]), [1]) == 1


def test_ece_puts_a_confidence_on_a_bins_edge_into_the_lower_bin():
    # Bins (0, 0.5] and (0.5, 1]: at confidence 0.5 and 1 the errors stand in different bins and do not cancel.
    rows = [one_confident(0.5, True), one_confident(1.0, False)]
    probabilities, labels = (list(part) for part in zip(*rows, strict=True))
    assert expected_calibration_error(np.array(probabilities), labels, n_bins=2) == pytest.approx((0.5 + 1) / 2)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(n=st.integers(1, 50), classes=st.integers(2, 5), n_bins=st.integers(1, 20), seed=st.integers(0, 1000))
def test_ece_equals_equation_3_of_guo_bin_by_bin(n, classes, n_bins, seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), size=n)
    labels = generator.integers(classes, size=n)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for b in range(n_bins):
        inside = (confidence > b / n_bins) & (confidence <= (b + 1) / n_bins)
        if inside.any():
            expected += inside.sum() / n * abs(right[inside].mean() - confidence[inside].mean())
    value = expected_calibration_error(probabilities, labels.tolist(), n_bins)
    assert value == pytest.approx(expected, abs=1e-12)
    assert 0 <= value <= 1


@pytest.mark.parametrize(
    ("probabilities", "n_bins", "message"),
    [
        ([[0.5, 0.5]], 0, "n_bins.*got 0"),
        ([[0.5, 0.5]], -3, "n_bins.*got -3"),
        ([[2.0, -0.5]], 15, "sum to 1; pass probabilities, not logits"),
        ([[0.5, 0.5], [0.5, math.nan]], 15, "sum to 1"),
    ],
)
def test_ece_refuses_what_is_no_probability(probabilities, n_bins, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(np.array(probabilities), [0] * len(probabilities), n_bins)


# Size and speed


def test_model_size_counts_every_parameter_and_buffer():
    vocabulary, positions, hidden, layers, classes = 50, 20, 16, 2, 3
    model = create_transformer(
        ("a", "b", "c"), vocabulary, hidden_size=hidden, n_layers=layers, n_heads=2, max_length=positions
    )
    norm = 2 * hidden
    embeddings = (vocabulary + positions + 2) * hidden + norm
    attention = 4 * (hidden * hidden + hidden) + norm
    feed_forward = (hidden * 4 * hidden + 4 * hidden) + (4 * hidden * hidden + hidden) + norm
    head = (hidden * hidden + hidden) + (hidden * classes + classes)
    parameters = embeddings + layers * (attention + feed_forward) + head
    buffers = 2 * positions * 8  # position and segment ids, 8 bytes each
    assert model_size(model) == {"parameters": parameters, "bytes": 4 * parameters + buffers}
    assert model_size(model.half()) == {"parameters": parameters, "bytes": 2 * parameters + buffers}


def quantised(model, kinds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch announces another library in the place of torch.ao
        return quantize_dynamic(copy.deepcopy(model), kinds, dtype=torch.qint8)


def test_a_quantised_classifier_has_as_many_parameters_in_fewer_bytes(classifier, messages):
    small = quantised(classifier.model, {nn.Linear})
    before, after = model_size(classifier.model), model_size(small)
    assert after["parameters"] == before["parameters"] == classifier.model.num_parameters()
    linear = sum(m.weight.numel() for m in classifier.model.modules() if isinstance(m, nn.Linear))
    scales = sum(type(m).__module__.startswith("torch.ao") and hasattr(m, "zero_point") for m in small.modules())
    assert after["bytes"] == before["bytes"] - 3 * linear + scales * (4 + 8)  # int8 for fp32; a scale, a zero point
    row = evaluate(TextClassifier(small, classifier.tokenizer), messages)
    assert row["parameters"] == before["parameters"]


def test_other_quantised_layers_count_too():
    model = nn.ModuleDict(
        {"lstm": nn.LSTM(6, 5, num_layers=2), "cell": nn.GRUCell(3, 4), "no_bias": nn.Linear(4, 3, bias=False)}
    )
    count = sum(p.numel() for p in model.parameters())
    small = quantised(model, {nn.LSTM, nn.GRUCell, nn.Linear})
    assert len(list(small.parameters())) == 0
    assert model_size(small)["parameters"] == count
    weights = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    assert weights < model_size(small)["bytes"] < 4 * count


def test_a_quantised_layer_that_is_used_twice_counts_once():
    shared = quantised(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})[0]
    assert model_size(nn.ModuleList([shared, shared]))["parameters"] == 4 * 3 + 3


def test_four_bit_weights_count_with_the_shape_that_they_stand_for():
    layer = nn.Linear(8, 4, bias=False)
    layer.weight = nn.Parameter(torch.zeros(16, 1, dtype=torch.uint8), requires_grad=False)
    layer.weight.quant_state = SimpleNamespace(shape=torch.Size([4, 8]))  # as bitsandbytes does
    assert model_size(layer) == {"parameters": 32, "bytes": 16}


def test_a_tensor_that_holds_others_has_their_bytes():
    pair = TwoTensor(torch.zeros(3, 4), torch.zeros(3, 4))
    layer = nn.Module()
    layer.register_parameter("weight", nn.Parameter(pair))
    assert model_size(layer) == {"parameters": 12, "bytes": 2 * 12 * 4}


def test_latency_is_in_milliseconds_for_one_message(classifier, messages):
    start = time.perf_counter()
    latency = measure_latency(classifier, messages.texts, n_messages=20, warmup=2)
    elapsed = 1000 * (time.perf_counter() - start)
    # Half of the messages took at least the median, and no transformer answers within 50 microseconds.
    assert 0.05 < latency <= elapsed / 10


def test_latency_is_that_of_evaluation_and_the_model_keeps_its_mode(classifier, messages, monkeypatch):
    modes, forward = [], classifier.model.forward

    def watched(**inputs):
        modes.append((classifier.model.training, inputs["input_ids"].shape[1]))
        return forward(**inputs)

    monkeypatch.setattr(classifier.model, "forward", watched)
    classifier.model.train()
    measure_latency(classifier, messages.texts, n_messages=5, warmup=1, max_length=7)
    assert classifier.model.training
    classifier.model.eval()
    assert {training for training, _ in modes} == {False}
    assert max(length for _, length in modes) == 7


def test_latency_refuses_a_text_longer_than_the_positions_before_it_runs(classifier, messages, monkeypatch):
    limit = classifier.model.config.max_position_embeddings
    monkeypatch.setattr(classifier.model, "forward", None)
    with pytest.raises(ValueError, match=rf"row 1: .* tokens, and the model has {limit} positions"):
        measure_latency(classifier, ["no sound", "no sound " * limit], max_length=10_000)


def test_throughput_is_in_messages_per_second(classifier, messages):
    start = time.perf_counter()
    throughput = measure_throughput(classifier, messages.texts, batch_size=8, max_texts=32)
    elapsed = time.perf_counter() - start
    # All 32 messages and the warm-up took this long, and no message takes less than a microsecond.
    assert 32 / elapsed <= throughput < 1e6


@pytest.mark.parametrize(
    ("texts", "options"),
    [([], {}), (["hello"], {"n_messages": 0}), (["hello"], {"warmup": 0}), (["hello"], {"n_messages": -1})],
)
def test_latency_refuses_counts_below_one(classifier, texts, options):
    with pytest.raises(ValueError, match="at least one text, one message and one warm-up"):
        measure_latency(classifier, texts, **options)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "non-empty list"),
        (["hello"], {"max_texts": 0}, "non-empty list"),
        (["hello"], {"batch_size": 0}, "batch_size.*got 0"),
    ],
)
def test_throughput_refuses_counts_below_one(classifier, texts, options, message):
    with pytest.raises(ValueError, match=message):
        measure_throughput(classifier, texts, **options)


# One row for a model, one table for several


def test_evaluate_gives_the_figures_of_the_models_own_logits(classifier, messages):
    logits = predict_logits(classifier, messages.texts)
    row = evaluate(classifier, messages, teacher_logits=logits, batch_size=7)
    expected = classification_metrics(logits, messages.labels, logits) | model_size(classifier.model)
    assert set(row) == {"accuracy", "macro_f1", "nll", "ece", "agreement", "parameters", "bytes"}
    assert row == pytest.approx(expected, rel=1e-4)
    assert row["agreement"] == 1


def test_evaluate_truncates_to_max_length(classifier, messages):
    row = evaluate(classifier, messages, max_length=4)
    logits = predict_logits(classifier, messages.texts, max_length=4)
    assert row["nll"] == pytest.approx(classification_metrics(logits, messages.labels)["nll"], rel=1e-6)
    assert row["nll"] != evaluate(classifier, messages)["nll"]


@pytest.mark.slow
def test_evaluate_times_only_when_asked(classifier, messages):
    assert not {"latency_ms", "messages_per_s"} & set(evaluate(classifier, messages))
    row = evaluate(classifier, messages, timing=True)
    assert row["latency_ms"] > 0
    assert row["messages_per_s"] > 0


@pytest.mark.parametrize("names", [HELP_DESK_QUEUES[::-1], HELP_DESK_QUEUES[:4], (*HELP_DESK_QUEUES, "other")])
def test_evaluate_refuses_data_whose_classes_are_not_the_models(classifier, names):
    data = LabelledTexts(["hello"], [0], names)
    with pytest.raises(ValueError, match=r"data's classes are.*" + names[-1] + r".*the model's.*comp\.graphics"):
        evaluate(classifier, data)


def test_evaluate_refuses_teacher_logits_of_other_messages(classifier, messages):
    with pytest.raises(ValueError, match=r"\(40, 5\) and \(39, 5\)"):
        evaluate(classifier, messages, teacher_logits=torch.zeros(39, 5))


def test_compare_gives_the_mean_and_the_spread_over_seeds():
    table = compare(
        {
            "student": [{"accuracy": 0.7, "nll": 1.0}, {"accuracy": 0.8, "nll": 1.0}, {"accuracy": 0.9, "nll": 4.0}],
            "teacher": [{"accuracy": 0.95, "nll": 0.5}],
        }
    )
    assert list(table.index) == ["student", "teacher"]
    student = table.loc["student"].to_dict()
    assert student == pytest.approx(
        {"seeds": 3, "accuracy": 0.8, "accuracy_sd": 0.1, "nll": 2.0, "nll_sd": math.sqrt(3)}
    )
    teacher = table.loc["teacher"]
    assert (teacher["seeds"], teacher["accuracy"]) == (1, 0.95)
    assert math.isnan(teacher["accuracy_sd"])  # one seed has no spread, rather than a spread of 0


def test_compare_refuses_a_model_without_rows():
    with pytest.raises(ValueError, match="no rows for 'student'"):
        compare({"teacher": [{"accuracy": 0.9}], "student": []})
