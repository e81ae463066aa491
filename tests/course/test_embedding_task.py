"""The experiment on sentence embeddings: its parts, and its committed log and tables."""

import math

import numpy as np
import pytest
import torch

from distill_helpers.course.experiments import embedding_task
from distill_helpers.course.experiments.embedding_task import ARMS, FIGURES, LOG, nearest_label_accuracy, summary
from distill_helpers.course.logs import RESULTS, read_log
from distill_helpers.models.sentence_encoders import SentenceEncoder
from distill_helpers.models.text_models import predict_logits
from distill_helpers.students.creation import create_student


def test_the_nearest_text_is_the_one_with_the_highest_cosine():
    known = torch.tensor([[1.0, 0.0], [0.0, 100.0]])
    texts = torch.tensor([[3.0, 2.0], [0.1, 0.2], [5.0, 1.0]])
    assert nearest_label_accuracy(texts, torch.tensor([0, 1, 1]), known, torch.tensor([0, 1])) == pytest.approx(2 / 3)


def test_the_messages_with_labels_are_a_part_of_all_and_equally_many_of_each_queue(help_desk):
    few, many = (embedding_task._rows(n, seed=3) for n in (480, 1920))
    assert many[:480] == few
    assert len(set(many)) == 1920
    assert np.bincount(np.array(help_desk.train.labels)[few]).tolist() == [96] * 5
    assert few != embedding_task._rows(480, seed=4)


def test_the_student_of_the_hard_labels_is_the_same_encoder_with_a_head(monkeypatch, help_desk, small_tokenizer):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(small_tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
    )
    teacher = SentenceEncoder(BertModel(config), small_tokenizer, pooling="mean", normalize=True)
    student = create_student(teacher, help_desk.train.texts[:50], vocab_size=200, hidden_size=8, max_length=24)
    with_head = embedding_task._with_head(student, seed=0)
    assert with_head.label_names == help_desk.label_names
    assert type(with_head.model.bert).__name__ == "BertModel"
    found = embedding_task._pooled(with_head.model.bert, student).embed(help_desk.test.texts[:5])
    assert torch.equal(found, student.embed(help_desk.test.texts[:5]))
    assert predict_logits(with_head, help_desk.test.texts[:5]).shape == (5, 5)


def test_the_log_is_complete_and_the_tables_are_made_from_it():
    log = read_log(LOG)
    assert not log.duplicated(["phase", "arm", "seed", "learning_rate"]).any()
    choices, results = log[log["phase"] == "choice"], log[log["phase"] == "result"]
    assert (choices.groupby("arm")["learning_rate"].nunique() == len(embedding_task.LEARNING_RATES)).all()
    assert (results.groupby("arm")["seed"].nunique().reindex(list(ARMS)) == 5).all()
    assert not set(choices["seed"]) & set(results["seed"])
    page = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8")
    for figure, title in FIGURES.items():
        assert f"{title}:" in page
        for arm, mean in summary(figure)["mean"].items():
            assert math.isfinite(mean)
            assert arm in page
            assert f"{mean:.1f}" in page or f"{mean:.3f}" in page
