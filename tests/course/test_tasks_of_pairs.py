"""The experiments on several labels and on a reranker: what their data are, and what their committed logs hold."""

import numpy as np
import pytest

from distill_helpers.course.experiments import multi_label_task, reranker_task
from distill_helpers.course.experiments.fair_arms import chosen_settings
from distill_helpers.course.experiments.multi_label_task import joined_messages
from distill_helpers.course.experiments.reranker_task import QUERIES, scored_pairs
from distill_helpers.course.logs import RESULTS, read_log
from distill_helpers.data.labelled_texts import LabelledTexts


@pytest.fixture(scope="module")
def messages():
    """40 messages of four groups, whose words say which message they are of."""
    return LabelledTexts([f"{chr(97 + i % 4)}{i} " * 40 for i in range(40)], [i % 4 for i in range(40)], tuple("abcd"))


def test_a_joined_text_has_the_labels_of_both_messages_and_no_message_comes_twice(messages):
    data = joined_messages(messages, 16, seed=0)
    used = [sorted(set(text.split())) for text in data.texts]
    groups = [sorted({"abcd".index(word[0]) for word in words}) for words in used]
    assert all(len(words) == 2 for words in used)
    assert len({word for words in used for word in words}) == 32
    assert [np.flatnonzero(row).tolist() for row in data.labels] == groups
    assert sorted(map(len, groups)) == [1] * 4 + [2] * 12
    assert joined_messages(messages, 16, seed=0) == data != joined_messages(messages, 16, seed=1)


def test_each_message_is_paired_with_each_query_and_belongs_to_one(messages):
    five = LabelledTexts(messages.texts[:3], [0, 4, 2], tuple("abcde"))
    data = scored_pairs(five)
    assert data.texts == [(query, text) for text in five.texts for query in QUERIES]
    assert np.array(data.labels).reshape(3, 5).argmax(axis=1).tolist() == five.labels
    assert sum(data.labels) == 3
    assert data.first(1) == (data.texts[:5], data.labels[:5])


@pytest.mark.parametrize("module", [multi_label_task, reranker_task])
def test_the_committed_log_has_every_run_and_the_table_is_made_of_it(module):
    log = read_log(module.LOG)
    results = log[log["phase"] == "result"]
    assert results.groupby("arm")["seed"].apply(sorted).to_dict() == {arm: [0, 1, 2, 3, 4] for arm in module.ARMS}
    assert len(log[log["phase"] == "choice"]) == len(module.ARMS) * len(module.LEARNING_RATES)
    assert len(log[log["phase"] == "teacher"]) == 1
    assert list(chosen_settings(log).columns) == ["learning_rate"]
    assert results["steps"].nunique() == 1
    table = module.summary()
    assert list(table.index) == ["teacher", *module.ARMS]
    lines = (RESULTS / f"{module.LOG}.md").read_text(encoding="utf-8").splitlines()
    assert [float(line.split("|")[2]) for line in lines[2:] if line.startswith("| ")] == pytest.approx(
        table["mean"].tolist(), abs=0.051
    )


@pytest.mark.slow
def test_a_student_of_the_log_is_made_again():
    log = read_log(multi_label_task.LOG)
    row = log[(log["phase"] == "result") & (log["arm"] == "hard labels") & (log["seed"] == 0)].iloc[0]
    trained = multi_label_task.train_student("hard labels", row["learning_rate"], 0)
    assert max(trained.validation) == pytest.approx(row["validation"], abs=0.05)
