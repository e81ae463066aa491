"""preflight for token classifiers: what is wrong with words, their labels and their cached logits is named."""

import pytest
import torch
from word_tokenizers import word_tokenizer

import distill_helpers as dh

TEXTS = [["the", "miller", "had"], ["one", "daughter"], ["a"] * 9]
LABELS = [[0, 1, 2], [0, -100], [1] * 9]
CONFIG = dh.DistillationConfig(task="token_classification", temperature=2.0, alpha=0.5)


def tagger(seed, kind="wordpiece"):
    tokenizer = word_tokenizer(kind)
    model = dh.create_transformer(
        ("a", "b", "c"), len(tokenizer), hidden_size=16, max_length=48, seed=seed, task="token_classification"
    )
    return dh.TextClassifier(model, tokenizer)


@pytest.fixture
def batch():
    logits = dh.precompute_teacher_word_logits(tagger(1), TEXTS, device="cpu", progress=False)
    data = dh.TokenClassificationDataset(TEXTS, LABELS, logits, word_tokenizer("wordpiece"))
    return dh.TokenClassificationCollator(data.tokenizer)([data[row] for row in range(3)])


@pytest.mark.parametrize("config", [None, CONFIG])
def test_nothing_is_found_where_nothing_is_wrong(batch, config) -> None:
    for given in (batch, TEXTS, [tuple(words) for words in TEXTS]):
        assert dh.preflight(tagger(1), tagger(0), given, config).findings == ()


def test_words_are_read_by_two_tokenizers() -> None:
    found = dh.preflight(tagger(1, "bpe"), tagger(0), TEXTS, CONFIG).findings
    assert {finding.check for finding in found} <= {"vocabularies"}


def test_cached_logits_of_other_words_are_named(batch) -> None:
    batch["teacher_logits"] = batch["teacher_logits"].roll(1, dims=0) + batch["counts"][..., None]
    [finding] = dh.preflight(tagger(1), tagger(0), batch, CONFIG).findings
    assert str(finding).startswith("error: cached logits: word 0: ")
    assert "14 of 14 words do" in str(finding)


def test_a_label_outside_the_classes_is_named_with_its_row(batch) -> None:
    batch["labels"][1, 1] = 3
    [finding] = dh.preflight(tagger(1), tagger(0), batch, CONFIG).errors
    assert str(finding).startswith("error: labels: row 1 has the label 3, and the student 3 classes")


def test_a_teacher_that_drops_out_is_named(batch) -> None:
    teacher = tagger(1)
    teacher.model.train()
    found = [finding.check for finding in dh.preflight(teacher, tagger(0), batch, CONFIG).errors]
    assert found[:2] == ["dropout", "teacher against itself"]


def test_permuted_labels_are_doubted() -> None:
    teacher = tagger(1)
    texts = [["the", "miller", "had", "one"] * 5, ["daughter"] * 9]
    said = dh.predict_word_logits(teacher, texts)
    wrong = [((of_text.argmax(-1) + 1) % 3).tolist() for of_text in said.by_text()]
    data = dh.TokenClassificationDataset(texts, wrong, said, teacher.tokenizer)
    batch = dh.TokenClassificationCollator(teacher.tokenizer)([data[0], data[1]])
    [finding] = dh.preflight(teacher, tagger(0), batch, CONFIG).findings
    assert str(finding).startswith("warning: labels: the teacher agrees with 0 of 29 labels")


def test_padding_that_is_read_is_named(batch) -> None:
    student = tagger(0)
    embeddings = student.model.bert.embeddings

    def shifted(module, args, output):
        return output + (output.mean(dim=1, keepdim=True) if output.shape[1] > 5 else torch.zeros(()))

    embeddings.register_forward_hook(shifted)
    found = [finding.check for finding in dh.preflight(tagger(1), student, batch, CONFIG).errors]
    assert found == ["batch independence"]
