"""From a journal to a student: its rows, what is counted, and students that learn from each kind of target."""

import numpy as np
import pytest
import torch
from api_records import answered, failed, place

from distill_helpers import IGNORE_INDEX, DistillationConfig, LabelledTexts, train_student_with_distillation
from distill_helpers.api.journal.journal import Journal
from distill_helpers.api.journal_dataset import dataset_from_journal, text_examples
from distill_helpers.api.labels.label_probabilities import probabilities_from_logprobs
from distill_helpers.api.review.quality_filters import filter_records
from distill_helpers.models.text_models import predict_logits

NAMES = ("mac", "windows")
SECRET = "my password is hunter2"
LETTERS = "ABCDE"


def letters(text, *p, **settings):
    return answered(text, "AB"[int(np.argmax(p))], place(*zip("AB", p, strict=True)), **settings)


@pytest.fixture(scope="module")
def messages(help_desk):
    """Parts of eighty training messages that a word decides on: tiny students learn that in a few seconds."""
    found = {}
    for label, word in ((1, "windows"), (3, "mac")):
        texts = [text.split() for text in help_desk.train.texts if word in text.split()]
        parts = dict.fromkeys(" ".join(words[words.index(word) :][:3]) for words in texts)
        found |= dict.fromkeys([part for part in parts if len({"windows", "mac"} & {*part.split()}) == 1][:40], label)
    return LabelledTexts(list(found), list(found.values()), help_desk.label_names)


def with_logprobs(data, says=lambda label: label):
    """Answers of a letter, 0.86 on the one that the teacher means."""
    records = []
    for text, label in zip(data.texts, data.labels, strict=True):
        meant = says(label)
        p = [0.86 if i == meant else 0.03 for i in range(5)]
        records.append(answered(text, LETTERS[meant], place(*zip(LETTERS, p, strict=True))))
    return records


def with_samples(data):
    """Three answers in words: the first queue's name, the second's, and the first's again."""
    return [
        answered(text, f"It is {data.label_names[(label + sample % 2) % 5]}.", sample=sample)
        for text, label in zip(data.texts, data.labels, strict=True)
        for sample in range(3)
    ]


def learn(make_classifier, train, messages, folder, config):
    """A tiny student after some steps, and what it says about the training messages."""
    # To choose the best epoch by: the training set's own rows with true labels.
    validation = dataset_from_journal(
        with_logprobs(messages),
        messages.label_names,
        train.tokenizer,
        answers=LETTERS,
        verified=dict(zip(messages.texts, messages.labels, strict=True)),
    )
    student = train_student_with_distillation(
        make_classifier(seed=0, n_layers=1),
        train,
        validation,
        config,
        n_epochs=7,
        learning_rate=5e-3,
        batch_size=4,
        device="cpu",
        output_dir=folder,
        progress=False,
    )
    return student.history, predict_logits(student.classifier, train.texts).softmax(dim=1)


def test_soft_targets_are_the_teachers_probabilities(small_tokenizer, tmp_path):
    records = [letters("a", 0.7, 0.3), failed("b"), letters("c", 0.2, 0.6), letters("d", 0.2, 0.8, sample=1)]
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(*records)
    for source in (records, tmp_path / "journal.jsonl", str(tmp_path / "journal.jsonl"), iter(records)):
        data = dataset_from_journal(source, NAMES, small_tokenizer, answers="AB")
        assert data.texts == ["a", "c", "d"]
        expected = torch.tensor([[0.7, 0.3], [0.25, 0.75], [0.2, 0.8]])
        torch.testing.assert_close(data.teacher_logits.softmax(dim=1), expected)
        assert data.labels == [IGNORE_INDEX] * 3
        assert (data.set_aside, data.n_lost, data.n_verified) == ({"failed": 1}, 1, 0)
        assert [item["input_ids"] for item in data] == small_tokenizer(["a", "c", "d"])["input_ids"]


def test_a_label_that_was_never_named_is_rare_not_impossible(small_tokenizer):
    records = [answered("a", "mac"), answered("b", "windows"), answered("b", "mac", sample=1)]
    data = dataset_from_journal(records, NAMES, small_tokenizer)
    assert data.teacher_logits.isfinite().all()
    torch.testing.assert_close(data.teacher_logits[0].exp(), torch.tensor([1.0, 1e-4]))
    torch.testing.assert_close(data.teacher_logits[1].exp(), torch.tensor([0.5, 0.5]))
    coarse = dataset_from_journal(records, NAMES, small_tokenizer, floor=0.01)
    torch.testing.assert_close(coarse.teacher_logits[0].exp(), torch.tensor([1.0, 0.01]))


def test_a_repr_is_one_line_without_a_text(small_tokenizer):
    records = [letters(SECRET, 0.7, 0.3), letters("b", 0.1, 0.9), failed("c")]
    data = dataset_from_journal(records, NAMES, small_tokenizer, answers="AB", verified={"b": 0})
    assert repr(data) == "JournalDataset(2 rows, 1 verified, set aside: {'failed': 1}, 1 inputs lost)"


def test_hard_targets_are_the_likeliest_labels_and_verified_ones_go_first(small_tokenizer):
    records = [letters("a", 0.7, 0.3), letters("b", 0.1, 0.9), letters("c", 0.1, 0.9)]
    verified = {"b": 0, "elsewhere": 1}
    data = dataset_from_journal(records, NAMES, small_tokenizer, targets="hard", answers="AB", verified=verified)
    assert data.labels == [0, 0, 1]
    assert data.teacher_logits is None
    assert data.n_verified == 1
    soft = dataset_from_journal(records, NAMES, small_tokenizer, answers="AB", verified=verified)
    assert soft.labels == [IGNORE_INDEX, 0, IGNORE_INDEX]
    assert soft.n_verified == 1


def test_probabilities_of_ones_own(small_tokenizer):
    records = [letters("a", 0.9, 0.1), letters("b", 0.6, 0.4)]
    calibrated = probabilities_from_logprobs(records, NAMES, answers="AB").calibrated()
    data = dataset_from_journal(records[::-1], NAMES, small_tokenizer, answers="AB", probabilities=calibrated)
    torch.testing.assert_close(data.teacher_logits.exp().double(), torch.tensor(calibrated.probabilities[::-1].copy()))
    hard = dataset_from_journal(records, NAMES, small_tokenizer, targets="hard", answers="AB", probabilities=calibrated)
    assert hard.labels == [0, 1]


def test_what_a_filter_has_set_aside_stays_out_and_is_counted(small_tokenizer):
    records = [
        letters("a", 0.7, 0.3, finish_reason="length"),
        letters("b", 0.55, 0.45),
        answered("c", "Perhaps", place(("Perhaps", 0.7), ("A", 0.3))),
        answered("d", "Perhaps", place(("Perhaps", 1.0))),
    ]
    plain = dataset_from_journal(records, NAMES, small_tokenizer, answers="AB")
    assert plain.texts == ["b"]
    assert (plain.set_aside, plain.n_lost) == ({"names no label": 2, "truncated": 1}, 3)
    soft = probabilities_from_logprobs(records, NAMES, answers="AB")
    filtered = filter_records(
        records,
        NAMES,
        answers="AB",
        must_name_a_label=False,
        allow_truncated=True,
        probabilities=soft,
        min_confidence=0.6,
    )
    data = dataset_from_journal(filtered, NAMES, small_tokenizer, answers="AB")
    # Of d there is nothing but a guess, which would make it a hard label of the first class.
    assert data.texts == ["a", "c"]
    assert (data.set_aside, data.n_lost) == ({"low confidence": 2}, 2)
    lenient = filter_records(records, NAMES, answers="AB", must_name_a_label=False, allow_truncated=True)
    data = dataset_from_journal(lenient, NAMES, small_tokenizer, answers="AB", targets="hard")
    assert data.texts == ["a", "b", "c"]
    assert (data.set_aside, data.n_lost) == ({"nothing on a label": 1}, 1)


@pytest.mark.parametrize(
    ("records", "settings", "message"),
    [
        ([answered(SECRET, "mac")], {"targets": "text"}, "'text'"),
        ([answered(SECRET, "mac")], {"floor": 0}, "floor .* 0"),
        ([answered(SECRET, "?"), failed("b")], {}, r"no input is left.*'names no label': 1.*filter_records"),
        ([letters(SECRET, 0.6, 0.4), answered("b", "A")], {"answers": "AB"}, "1 answers have .* and 1 have none"),
        ([answered(SECRET, "mac")], {"verified": {"b": 0}}, "none of the 1 verified"),
        ([answered(SECRET, "mac")], {"verified": {SECRET: 2}}, "label 2 is not one of the 2"),
        ([answered(SECRET, "mac")], {"verified": {SECRET: -1}}, "label -1"),
        (
            [answered(SECRET, "mac")],
            {"probabilities": probabilities_from_logprobs([letters("b", 1, 0)], NAMES, answers="AB")},
            "1 of 1 inputs have no probabilities",
        ),
        (
            [answered(SECRET, "mac")],
            {"probabilities": probabilities_from_logprobs([letters(SECRET, 1, 0)], ("a", "b", "c"), answers="ABC")},
            "2 label names, but probabilities of 3",
        ),
    ],
)
def test_what_makes_no_training_set(small_tokenizer, records, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        dataset_from_journal(records, NAMES, small_tokenizer, **settings)
    assert SECRET not in str(error.value)


def test_a_journal_that_does_not_exist(small_tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError):
        dataset_from_journal(tmp_path / "none.jsonl", NAMES, small_tokenizer)


def test_pairs_of_texts(tmp_path):
    records = [
        answered("a", " Restart it.\n"),
        answered("a", "Wait.", sample=1),
        failed("b"),
        answered("c", "Half an ans", finish_reason="length"),
        answered("d", "I'm sorry, I can't help with that."),
        answered("e", "", finish_reason="content_filter"),
    ]
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(*records)
    pairs = [("a", "Restart it."), ("a", "Wait.")]
    assert text_examples(records) == text_examples(tmp_path / "journal.jsonl") == pairs
    assert text_examples(filter_records(records[:1])) == pairs[:1]
    with pytest.raises(ValueError, match=r"no answer is left.*'failed': 1"):
        text_examples(records[2:])


@pytest.mark.slow
def test_a_student_learns_from_log_probabilities(make_classifier, messages, tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(*with_logprobs(messages))
    tokenizer = make_classifier().tokenizer
    train = dataset_from_journal(tmp_path / "journal.jsonl", messages.label_names, tokenizer, answers=LETTERS)
    history, p = learn(make_classifier, train, messages, tmp_path / "s", DistillationConfig(alpha=1, temperature=1))
    assert history["loss"].iloc[-1] < 0.2 * history["loss"].iloc[0]
    assert (p.argmax(dim=1) == torch.tensor(messages.labels)).float().mean() > 0.9


@pytest.mark.slow
def test_a_student_learns_from_samples(make_classifier, messages, tmp_path):
    tokenizer = make_classifier().tokenizer
    train = dataset_from_journal(with_samples(messages), messages.label_names, tokenizer)
    history, p = learn(make_classifier, train, messages, tmp_path / "s", DistillationConfig(alpha=1, temperature=1))
    assert history["loss"].iloc[-1] < 0.2 * history["loss"].iloc[0]
    assert (p.argmax(dim=1) == torch.tensor(messages.labels)).float().mean() > 0.9
    # One of three samples said the next queue.
    second = p.topk(2).indices[:, 1]
    assert (second == (torch.tensor(messages.labels) + 1) % 5).float().mean() > 0.7


@pytest.mark.slow
def test_a_student_learns_from_hard_labels(make_classifier, messages, tmp_path):
    tokenizer = make_classifier().tokenizer
    train = dataset_from_journal(with_samples(messages), messages.label_names, tokenizer, targets="hard")
    assert train.labels == messages.labels
    history, p = learn(make_classifier, train, messages, tmp_path / "s", DistillationConfig(alpha=0))
    assert history["loss"].iloc[-1] < 0.2 * history["loss"].iloc[0]
    assert (p.argmax(dim=1) == torch.tensor(messages.labels)).float().mean() > 0.9


@pytest.mark.slow
def test_verified_labels_anchor_a_student_to_the_truth(make_classifier, messages, tmp_path):
    records = with_logprobs(messages, says=lambda _: 1)  # the teacher never says 3
    tokenizer, names = make_classifier().tokenizer, messages.label_names
    verified = {text: 3 for text, label in zip(messages.texts, messages.labels, strict=True) if label == 3}
    train = dataset_from_journal(records, names, tokenizer, answers=LETTERS, verified=verified)
    assert set(train.teacher_logits.argmax(dim=1).tolist()) == {1}
    config = DistillationConfig(alpha=0.3, temperature=1)
    _, p = learn(make_classifier, train, messages, tmp_path / "s", config)
    assert (p.argmax(dim=1) == torch.tensor(messages.labels)).float().mean() > 0.9
