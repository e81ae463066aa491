"""The training set of a token classifier: a word's first piece carries its label and its soft target, nothing else."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from word_tokenizers import word_tokenizer

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss
from distill_helpers.models.word_predictions import WordLogits
from distill_helpers.training.token_dataset import TokenClassificationCollator, TokenClassificationDataset

TEXTS = [["the", "miller"], ["Grey", "stripes", "since", "the", "update"], ["daughter"]]
LABELS = [[0, 1], [2, 0, IGNORE_INDEX, 1, 0], [1]]
TOKENIZERS = {kind: word_tokenizer(kind) for kind in ("wordpiece", "bpe", "unigram")}


def word_logits(n_classes=3, texts=TEXTS):
    """Different in every word and class."""
    n_words = [len(words) for words in texts]
    logits = torch.arange(sum(n_words) * n_classes, dtype=torch.float32).view(-1, n_classes)
    return WordLogits(logits, n_words, list(n_words))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_an_item_has_label_and_logits_at_first_pieces_alone(kind) -> None:
    tokenizer, logits = TOKENIZERS[kind], word_logits()
    data = TokenClassificationDataset(TEXTS, LABELS, logits, tokenizer)
    assert len(data) == 3
    for row, (words, labels, of_text) in enumerate(zip(TEXTS, LABELS, logits.by_text(), strict=True)):
        item, word_of_token = data[row], tokenizer(words, is_split_into_words=True).word_ids(0)
        assert item["input_ids"] == tokenizer(words, is_split_into_words=True)["input_ids"]
        seen = set()
        for place, word in enumerate(word_of_token):
            first = word is not None and word not in seen
            seen.add(word)
            assert item["counts"][place] == first
            assert item["labels"][place] == (labels[word] if first else IGNORE_INDEX)
            assert torch.equal(item["teacher_logits"][place], of_text[word] if first else torch.zeros(3))
    assert data[-1]["input_ids"] == data[2]["input_ids"]
    assert torch.equal(data[-1]["teacher_logits"], data[2]["teacher_logits"])


@pytest.mark.slow
@given(
    strategies.lists(
        strategies.lists(strategies.text("abcdeirst.,'ö", min_size=1, max_size=8), min_size=1, max_size=8),
        min_size=1,
        max_size=4,
    ),
    strategies.sampled_from(sorted(TOKENIZERS)),
    strategies.integers(3, 16),
    strategies.integers(3, 16),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:.*nothing is learned of these words")
def test_a_batch_holds_the_label_and_the_logits_of_every_word_that_was_read(texts, kind, length, n_read) -> None:
    """Words numbered by their labels, so that a shift by one would be seen; teachers that read other lengths."""
    tokenizer = TOKENIZERS[kind]
    labels = [[10 * row + i for i in range(len(words))] for row, words in enumerate(texts)]
    n_read = [min(n_read, len(words)) for words in texts]
    flat = torch.tensor([float(label) for row, n in zip(labels, n_read, strict=True) for label in row[:n]])
    logits = WordLogits(torch.stack([flat] + [-flat] * 60, dim=1), n_read, [len(words) for words in texts])
    data = TokenClassificationDataset(texts, labels, logits, tokenizer, max_length=length)
    batch = TokenClassificationCollator(tokenizer)([data[row] for row in range(len(data))])
    n_learned = 0
    for row, words in enumerate(texts):
        pieces = tokenizer(words, is_split_into_words=True).word_ids(0)
        expected = [i for i in range(n_read[row]) if pieces.index(i) < length - 1 or len(pieces) <= length]
        counted = batch["counts"][row]
        assert batch["labels"][row][counted].tolist() == [labels[row][i] for i in expected]
        assert batch["teacher_logits"][row][counted][:, 0].tolist() == [float(labels[row][i]) for i in expected]
        assert (batch["labels"][row][~counted] == IGNORE_INDEX).all()
        n_learned += len(expected)
    assert data.n_cut == sum(map(len, texts)) - n_learned
    assert len(data.labels) == len(data.teacher_logits) == n_learned


def test_a_batch_is_padded_on_the_right_whatever_the_tokenizer_pads() -> None:
    tokenizer = word_tokenizer("wordpiece")
    data = TokenClassificationDataset(TEXTS, LABELS, word_logits(), tokenizer)
    items = [data[row] for row in range(3)]
    right = TokenClassificationCollator(tokenizer)(items)
    tokenizer.padding_side = "left"
    left = TokenClassificationCollator(tokenizer)(items)
    for name, tensor in right.items():
        assert torch.equal(tensor, left[name]), name
    n = max(len(item["input_ids"]) for item in items)
    assert {name: tuple(tensor.shape) for name, tensor in right.items()} == {
        "input_ids": (3, n),
        "attention_mask": (3, n),
        "labels": (3, n),
        "counts": (3, n),
        "teacher_logits": (3, n, 3),
    }
    padding = right["attention_mask"] == 0
    assert padding.any()
    assert not right["counts"][padding].any()
    assert (right["labels"][padding] == IGNORE_INDEX).all()


def test_a_word_without_a_label_learns_from_the_teacher() -> None:
    """The loss over a batch is the loss over its words, written out."""
    data = TokenClassificationDataset(TEXTS, LABELS, word_logits(), TOKENIZERS["bpe"])
    batch = TokenClassificationCollator(TOKENIZERS["bpe"])([data[row] for row in range(3)])
    student = torch.randn(*batch["labels"].shape, 3, generator=torch.Generator().manual_seed(0))
    config = DistillationConfig(task="token_classification", temperature=2.0, alpha=0.3)
    terms = DistillationLoss(config)(student, batch["teacher_logits"], batch["labels"], mask=batch["counts"])
    of_words, labels = student[batch["counts"]], torch.tensor([label for row in LABELS for label in row])
    p, log_q = (word_logits().logits / 2).softmax(-1), (of_words / 2).log_softmax(-1)
    soft = 4 * (p * (p.clamp_min(1e-30).log() - log_q)).sum(-1).mean()
    hard = torch.nn.functional.cross_entropy(of_words, labels, reduction="sum") / 8
    torch.testing.assert_close(terms["soft_target_loss"], soft)
    torch.testing.assert_close(terms["task_loss"], hard)


def test_words_that_are_cut_off_are_counted_and_said() -> None:
    tokenizer, short = TOKENIZERS["wordpiece"], word_logits()
    short = WordLogits(short.logits[[0, 1, 2, 3, 4, 7]], [2, 3, 1], [2, 5, 1])
    with pytest.warns(
        UserWarning, match=r"^2 words have no teacher logits.*cut off for the teacher; nothing is learned"
    ):
        data = TokenClassificationDataset(TEXTS, LABELS, short, tokenizer)
    assert (data.n_cut, data.labels) == (2, [0, 1, 2, 0, IGNORE_INDEX, 1])
    assert repr(data) == (
        "TokenClassificationDataset(3 texts, 6 words, 5 hard labels, teacher logits of 3 classes, 2 cut off)"
    )
    other = WordLogits(word_logits().logits[[0, 2, 3, 4, 5, 6, 7]], [1, 5, 1], [2, 5, 1])
    with pytest.warns(UserWarning, match=r"^3 of 8 words lie beyond the student's max_length.*1 words have no teacher"):
        both = TokenClassificationDataset(TEXTS, LABELS, other, tokenizer, max_length=9)
    assert (both.n_cut, both.labels) == (4, [0, 2, 0, 1])
    assert torch.equal(both.teacher_logits, word_logits().logits[[0, 2, 3, 7]])


def test_labels_of_numpy_are_ints(recwarn) -> None:
    labels = [np.array(row) for row in LABELS]
    data = TokenClassificationDataset(TEXTS, labels, None, TOKENIZERS["wordpiece"])
    assert {type(label) for label in data.labels} == {int}
    assert data.teacher_logits is None
    assert "teacher_logits" not in data[0]
    assert not recwarn.list, "nothing was cut, and nothing is said"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1], [0, 1, 0, 1], [1]], "row 1: 5 words, but 4 labels; give each word one, or -100"),
        ([[0, 1], [0, 1, 0, 1, 3], [1]], "row 1, word 4: label 3 is neither one of the teacher's 3 classes nor -100"),
        ([[0, None], [0] * 5, [1]], "row 0, word 1: the label is missing"),
        ([[0, 1.0], [0] * 5, [1]], "row 0, word 1: the label 1.0 is a float"),
        ([["O", "B"], [0] * 5, [1]], "row 0, word 0: the label 'O' is a name"),
        ([["O", [1]], [0] * 5, [1]], "row 0, word 0: the label 'O' is a name"),
        (["01", [0] * 5, [1]], "row 0: the labels '01' are no list"),
        ([0, 1, 1], "row 0: the labels 0 are no list with a class for each of 2 words"),
        ([[0, 1], [0] * 5], "3 texts, but 2 labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_row_and_word(labels, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TokenClassificationDataset(TEXTS, labels, word_logits(), TOKENIZERS["wordpiece"])


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (word_logits(texts=TEXTS[:2]), "3 texts, but 2 teacher_logits"),
        (
            word_logits(texts=[TEXTS[1], TEXTS[0], TEXTS[2]]),
            "row 0: the text has 2 words, and the teacher's logits are of 5",
        ),
        (
            [torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(1, 3)],
            "row 1: the text has 5 words, and the teacher's logits",
        ),
        (word_logits(n_classes=1), "have a single class"),
        (word_logits()._replace(logits=torch.zeros(8, 3, dtype=torch.long)), "must be floats"),
        (word_logits()._replace(logits=torch.zeros(7, 3)), "for 8 words, got (7, 3)"),
        (
            word_logits()._replace(logits=torch.zeros(8, 3).index_fill(0, torch.tensor([4]), torch.inf)),
            "row 1, word 2: the teacher's logits are not finite",
        ),
    ],
)
def test_teacher_logits_that_do_not_fit_are_refused(logits, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TokenClassificationDataset(TEXTS, None, logits, TOKENIZERS["wordpiece"])


def test_a_set_that_teaches_nothing_and_one_string_of_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing to learn from.*live teacher, give labels of -100"):
        TokenClassificationDataset(TEXTS, None, None, TOKENIZERS["wordpiece"])
