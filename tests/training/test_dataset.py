"""The student's training set: tokenised once, padded to the batch, unlabelled where there is no label."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from distill_helpers.data.corpora import load_help_desk
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.batching import encode_texts, evaluation_mode
from distill_helpers.models.loading import base_encoder_path
from distill_helpers.models.text_models import predict_logits
from distill_helpers.targets.features import TeacherFeatures
from distill_helpers.training.dataset import DistillationCollator, DistillationDataset


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(base_encoder_path())


@pytest.fixture(scope="module")
def messages():
    """Twelve real messages with 2, 4, …, 24 words, and their queues."""
    data = load_help_desk().validation.subset(range(12))
    return [" ".join(text.split()[: 2 * (i + 1)]) for i, text in enumerate(data.texts)], data.labels


@pytest.fixture(scope="module")
def logits():
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(0))


class CountingTokenizer:
    """The real tokenizer, and how many texts it was asked for."""

    def __init__(self, tokenizer):
        self.tokenizer, self.texts_seen = tokenizer, 0

    def __call__(self, texts, **options):
        self.texts_seen += len(texts)
        return self.tokenizer(texts, **options)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def test_every_text_is_tokenised_exactly_once_however_many_epochs_are_read(tokenizer, messages, logits):
    counting = CountingTokenizer(tokenizer)
    data = DistillationDataset(*messages, logits, counting)
    assert counting.texts_seen == 12
    loader = DataLoader(data, batch_size=5, shuffle=True, collate_fn=DistillationCollator(counting))
    for _ in range(3):
        assert sum(len(batch["labels"]) for batch in loader) == 12
    assert counting.texts_seen == 12


def test_an_item_is_the_tokens_the_label_and_the_teachers_logits_of_one_text(tokenizer, messages, logits):
    texts, labels = messages
    data = DistillationDataset(texts, labels, logits, tokenizer)
    assert len(data) == 12
    for row in (0, 11):
        item = data[row]
        assert item["input_ids"] == tokenizer(texts[row])["input_ids"]
        assert item["labels"] == labels[row]
        assert torch.equal(item["teacher_logits"], logits[row])


def test_texts_are_truncated_to_max_length(tokenizer, messages, logits):
    data = DistillationDataset(*messages, logits, tokenizer, max_length=9)
    assert data.token_ids == encode_texts(tokenizer, messages[0], 9)
    assert max(map(len, data.token_ids)) == 9


def test_logits_are_kept_detached_in_fp32(tokenizer, messages, logits):
    computed = (logits.clone().requires_grad_() * 1).bfloat16()
    kept = DistillationDataset(*messages, computed, tokenizer).teacher_logits
    assert (kept.dtype, kept.requires_grad) == (torch.float32, False)
    torch.testing.assert_close(kept, logits, rtol=0.01, atol=0.01)


def test_a_batch_is_padded_to_its_own_longest_text(tokenizer, messages, logits):
    data = DistillationDataset(*messages, logits, tokenizer)
    batches = list(DataLoader(data, batch_size=4, collate_fn=DistillationCollator(tokenizer)))
    for number, batch in enumerate(batches):
        lengths = [len(ids) for ids in data.token_ids[4 * number : 4 * number + 4]]
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (4, max(lengths))
        assert batch["attention_mask"].sum(dim=1).tolist() == lengths
        for row, length in enumerate(lengths):
            assert batch["input_ids"][row, :length].tolist() == data.token_ids[4 * number + row]
            assert (batch["input_ids"][row, length:] == tokenizer.pad_token_id).all()
    widths = [batch["input_ids"].shape[1] for batch in batches]
    assert widths[0] < widths[-1]


def test_a_batch_carries_labels_and_logits_in_the_order_of_its_items(tokenizer, messages, logits):
    data = DistillationDataset(*messages, logits, tokenizer)
    rows = [7, 0, 3]
    batch = DistillationCollator(tokenizer)([data[row] for row in rows])
    assert batch["labels"].tolist() == [messages[1][row] for row in rows]
    assert batch["labels"].dtype == torch.int64
    assert torch.equal(batch["teacher_logits"], logits[rows])


def test_messages_without_any_label_are_marked_unlabelled(tokenizer, messages, logits):
    data = DistillationDataset(messages[0], None, logits, tokenizer)
    batch = DistillationCollator(tokenizer)([data[0], data[1]])
    assert batch["labels"].tolist() == [IGNORE_INDEX, IGNORE_INDEX]
    assert torch.equal(batch["teacher_logits"], logits[:2])


def test_labelled_and_unlabelled_messages_mix(tokenizer, messages, logits):
    data = DistillationDataset(messages[0][:3], [4, IGNORE_INDEX, 0], logits[:3], tokenizer)
    assert [data[row]["labels"] for row in range(3)] == [4, IGNORE_INDEX, 0]


def test_without_a_teacher_there_are_no_logits(tokenizer, messages):
    data = DistillationDataset(*messages, None, tokenizer)
    assert "teacher_logits" not in data[0]
    batch = DistillationCollator(tokenizer)([data[0], data[1]])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


@pytest.mark.parametrize("as_sequence", [tuple, np.array, torch.tensor])
def test_labels_may_be_any_sequence_of_integers(tokenizer, messages, logits, as_sequence):
    data = DistillationDataset(messages[0], as_sequence(messages[1]), logits, tokenizer)
    assert data.labels == messages[1]
    assert {type(label) for label in data.labels} == {int}


def test_the_repr_is_one_line_with_what_there_is_to_learn_from(tokenizer, messages, logits):
    texts, labels = messages
    data = DistillationDataset(texts, [*labels[:1], *[IGNORE_INDEX] * 11], logits, tokenizer)
    assert repr(data) == "DistillationDataset(12 texts, 1 hard label, teacher logits of 5 classes)"
    assert repr(DistillationDataset(texts, labels, None, tokenizer)) == "DistillationDataset(12 texts, 12 hard labels)"
    data.teacher_features = TeacherFeatures({"hidden.0": logits, "keys.1": logits}, [], ModelShape(2, 5, 1), 1.0, False)
    assert repr(data).endswith("teacher logits of 5 classes, teacher features hidden.0, keys.1)")


LOGITS = torch.zeros(3, 4)


def poisoned(row, value):
    logits = torch.zeros(3, 4)
    logits[row, 1] = value
    return logits


@pytest.mark.parametrize(
    ("texts", "labels", "logits", "message"),
    [
        (["a", "b", "c"], None, None, "nothing to learn from"),
        (["a", "b", "c"], [0, 1], LOGITS, "3 texts, but 2 labels"),
        (["a", "b", "c"], [0, 1, 2, 3], None, "3 texts, but 4 labels"),
        (["a", "b"], [0, 1], LOGITS, "2 texts, but 3 teacher_logits"),
        (["a", "b"], None, LOGITS, "2 texts, but 3 teacher_logits"),
        (["a", "b", "c"], [0, 1, 2], torch.zeros(3), r"\(texts, classes\), got \(3,\)"),
        (["a", "b", "c"], [0, 1, 2], torch.zeros(3, 4, 5), r"got \(3, 4, 5\)"),
        (["a", "b", "c"], [0, 1, 2], torch.zeros(3, 4, dtype=torch.long), "must be floats"),
        (["a", "b", "c"], [0, 0, 0], torch.zeros(3, 1), "single column, over which a softmax is always 1"),
        (["a", "b", "c"], None, torch.zeros(3, 0), "single column"),
        (["a", "b", "c"], [0, None, 2], LOGITS, r"row 1: the label is missing \(None\); mark .* with -100"),
        (["a", "b", "c"], [0, 1, math.nan], LOGITS, "row 2: the label is missing"),
        (["a", "b", "c"], np.array([0, np.nan, 1]), None, "row 0: the label .*is a float"),
        (["a", "b", "c"], pd.array([0, None, 1], dtype="Int64"), None, "row 1: the label is missing"),
        (["a", "b", "c"], [0, 1.0, 2], LOGITS, r"row 1: the label 1\.0 is a float"),
        (["a", "b", "c"], torch.tensor([0.2, 1, 2]), None, "row 0: the label .*is a float"),
        (["a", "b", "c"], [0, 1, True], None, "row 2: the label True is no class index"),
        (["a", "b", "c"], np.array([True, False, True]), None, "row 0: the label .*True.* is no class index"),
        (["a", "b", "c"], torch.tensor([True, False, True]), None, "row 0: the label .* is no class index"),
        (["a", "b", "c"], [0, "1", 2], None, r"row 1: the label '1' is a name; pass its index"),
        (["a", "b", "c"], [0, [0, 2], 2], None, "row 1: the label .* several labels for a text need task='multi_lab"),
        (["a", "b", "c"], torch.zeros(3, 4, dtype=torch.long), None, "row 0: the label .* need task='multi_label'"),
        (["a", "b", "c"], [0, 1, -2], None, "row 2: label -2 is neither a class index nor -100"),
        (["a", "b", "c"], [0, 1, 2], poisoned(1, math.nan), "row 1.*not finite"),
        (["a", "b", "c"], None, poisoned(2, math.inf), "row 2.*not finite"),
        (["a", "b", "c"], None, poisoned(0, -math.inf), "row 0.*not finite"),
        (["a", "b", "c"], [0, 4, 2], LOGITS, "row 1: label 4.*4 classes"),
        (["a", "b", "c"], [0, IGNORE_INDEX, -1], LOGITS, "row 2: label -1"),
        (["a", " ", "c"], [0, 1, 2], LOGITS, "row 1.*empty"),
        ([], [], torch.zeros(0, 4), "non-empty list"),
    ],
)
def test_data_that_cannot_be_right_is_refused_with_its_row(tokenizer, texts, labels, logits, message):
    with pytest.raises(ValueError, match=message):
        DistillationDataset(texts, labels, logits, tokenizer)


def test_logits_that_are_no_tensor_and_labels_in_one_string_are_refused(tokenizer):
    with pytest.raises(TypeError, match="teacher_logits must be a torch tensor, got ndarray"):
        DistillationDataset(["a", "b"], None, np.zeros((2, 3)), tokenizer)
    with pytest.raises(TypeError, match="labels must be a sequence of class indices, got one str"):
        DistillationDataset(["a", "b"], "01", None, tokenizer)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused_with_the_row(tokenizer, value):
    texts = ["no sound", "my mac shows a grey screen", "no driver"]
    token_ids = encode_texts(tokenizer, texts)
    tensor = torch.zeros(sum(map(len, token_ids)), 4)
    tensor[len(token_ids[0])] = value  # the first token of the second text
    features = TeacherFeatures({"hidden.1": tensor}, token_ids, ModelShape(2, 4, 1), 1.0, False)
    with pytest.raises(ValueError, match=r"row 1: the teacher's feature 'hidden\.1' is not finite"):
        DistillationDataset(texts, None, None, tokenizer, teacher_features=features)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_student_learns_from_the_positions_at_which_it_predicts(make_classifier, side):
    """BERT numbers positions from the first column: with padding on the left, training would read other ones."""
    student, tokenizer = make_classifier(), copy.deepcopy(make_classifier().tokenizer)
    tokenizer.padding_side = side
    texts = ["no sound", "the screen of my mac stays grey after the update"]
    data = DistillationDataset(texts, [0, 1], None, tokenizer)
    batch = DistillationCollator(tokenizer)([data[0], data[1]])
    batch.pop("labels")
    with torch.no_grad(), evaluation_mode(student.model):
        logits = student.model(**batch).logits
    torch.testing.assert_close(logits, predict_logits(student, texts), atol=1e-6, rtol=0)


def test_only_two_sides_are_there(tokenizer):
    with pytest.raises(ValueError, match="side must be 'left' or 'right', got 'both'"):
        DistillationCollator(tokenizer, side="both")
