"""What the README says of the experiments on tasks is what their logs say."""

import re

import pytest
from published_text import readme_row

from distill_helpers.course.experiments import (
    embedding_task,
    image_task,
    multi_label_task,
    reranker_task,
    several_teachers,
)


def test_several_labels():
    table, row = multi_label_task.summary(), readme_row(multi_label_task.LOG)
    hard, same, more = (table.loc[arm] for arm in multi_label_task.ARMS)
    assert f"macro-F1 from {hard['mean']:.0f} to {same['mean']:.0f}%" in row
    assert re.findall(r"0\.\d\d", row) == [f"{arm['BCE']:.2f}" for arm in (hard, same, more)]
    assert same["difference"] > same["± 95%"]


def test_a_reranker():
    table, row = reranker_task.summary(), readme_row(reranker_task.LOG)
    hard, same, more = (table.loc[arm] for arm in reranker_task.ARMS)
    means = [f"{arm['mean'] / 100:.2f}" for arm in (hard, table.loc["teacher"], more)]
    assert re.findall(r"0\.\d\d", row) == means
    assert f"{same['difference']:.1f} ± {same['± 95%']:.1f} points higher" in row
    assert same["difference"] > same["± 95%"]


def test_several_teachers():
    table, row = several_teachers.summary(), readme_row(several_teachers.LOG)
    means = table["mean"]
    teachers = sorted(round(means[f"teacher of desk {number}"]) for number in (1, 2, 3))
    assert f"{teachers[0]} to {teachers[-1]}% right" in row
    mean = table.loc["mean of probabilities"]
    assert f"a student of {mean['mean']:.0f}%, {mean['difference']:.0f} ± {mean['± 95%']:.0f} points" in row
    assert f"of {means['mean of probabilities, and 600 messages without labels']:.0f}% with 600" in row
    assert f"makes one of {means['best single teacher']:.0f}%" in row


def test_images():
    table, row = image_task.summary(), readme_row(image_task.LOG)
    same, more = table.loc["distilled, same images"], table.loc["distilled, and 997 images without labels"]
    assert f"reaches {table.loc['hard labels', 'mean']:.0f}%" in row
    assert f"add {same['difference']:.0f} ± {same['± 95%']:.0f} points" in row
    assert same["difference"] < same["± 95%"]
    assert f"it reaches {more['mean']:.0f}%, as with people's" in row
    assert round(more["mean"]) == pytest.approx(round(table.loc["hard labels, 1,097 of them", "mean"]), abs=1)


def test_sentence_embeddings():
    table, row = embedding_task.summary("rank_correlation"), readme_row(embedding_task.LOG)
    assert re.findall(r"0\.\d\d", row) == [
        f"{table.loc[arm, 'mean']:.2f}" for arm in ("distilled, same messages", "hard labels")
    ]
    neighbours = embedding_task.summary("neighbour_accuracy").loc["distilled, same messages"]
    assert neighbours["difference"] < neighbours["± 95%"]
