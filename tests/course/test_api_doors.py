"""The doors of an API: what each lets through, what its students are trained with, and what the log has."""

import re

import pytest
import torch
from published_text import cells_of_table, readme_row, words_of_page

from distill_helpers.course.experiments import api_doors
from distill_helpers.course.experiments.api_doors import (
    ANSWERS,
    ARMS,
    GRID,
    LOG,
    REFERENCE,
    listed,
    summary,
    written,
)
from distill_helpers.course.experiments.fair_arms import Trained
from distill_helpers.course.logs import read_log


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(6, 77, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_answer_at_temperature_0_is_the_likeliest_class(logits) -> None:
    seen = written(logits, seeded(), n=None).softmax(dim=1)
    torch.testing.assert_close(seen, torch.nn.functional.one_hot(logits.argmax(dim=1), 77).float())


@pytest.mark.parametrize("k", [1, 5, 20, 77])
def test_listed_log_probabilities_are_kept_and_the_others_share_half_of_the_rest(logits, k) -> None:
    p, seen = logits.softmax(dim=1), listed(logits, seeded(), k=k).exp()
    torch.testing.assert_close(seen.sum(dim=1), torch.ones(6))
    for row, shown in zip(p, seen, strict=True):
        likeliest = row.argsort(descending=True)
        rest = row[likeliest[k:]].sum()
        torch.testing.assert_close(shown[likeliest[:k]], row[likeliest[:k]] / (1 - rest / 2))
        others = shown[likeliest[k:]]
        torch.testing.assert_close(others.sum(), rest / 2 / (1 - rest / 2))
        torch.testing.assert_close(others, others.mean().expand_as(others) if len(others) else others)


def test_answers_are_drawn_at_temperature_1_and_counted(logits) -> None:
    many = written(logits[:2], seeded(), n=10_000).softmax(dim=1)
    torch.testing.assert_close(many, logits[:2].softmax(dim=1), atol=0.02, rtol=0)
    five = written(logits, seeded(), n=5)
    assert torch.isfinite(five).all()
    counts = 5 * five.softmax(dim=1)
    torch.testing.assert_close(counts, counts.round())
    first = [written(logits[:1], seeded(3), n=n).softmax(dim=1) * n for n in (1, 5, 20)]
    assert (first[0] <= first[1] + 1e-3).all(), "the first answer is among the first five"
    assert (first[1] <= first[2] + 1e-3).all(), "and these among the twenty"


@pytest.mark.parametrize("arm", ARMS)
def test_a_student_is_trained_on_what_its_door_lets_through(arm, logits, monkeypatch) -> None:
    asked = {}

    def train_for_steps(task, name, variant, learning_rate, max_steps, seed, *, config, seen):
        asked.update(task=task, name=name, labels=variant.labels, transfer=variant.transfer, rate=learning_rate)
        asked.update(steps=max_steps, seed=seed, temperature=config.temperature, alpha=config.alpha, seen=seen)
        return Trained([0.5], dict, {})

    monkeypatch.setattr(api_doors, "_task", lambda: "the task")
    monkeypatch.setattr(api_doors, "train_for_steps", train_for_steps)
    api_doors.train_student(arm, 1e-3, seed=7)
    seen = asked.pop("seen")
    assert asked == {
        "task": "the task",
        "name": f"{LOG} {arm}",
        "labels": "soft",
        "transfer": False,
        "rate": 1e-3,
        "steps": 1500,
        "seed": 7,
        "temperature": 1.0,
        "alpha": 1.0,
    }
    torch.testing.assert_close(seen(logits), ARMS[arm](logits, seeded(7)))
    assert torch.equal(seen(logits), logits) == (arm == REFERENCE)


def test_the_doors_are_the_likeliest_the_listed_and_the_drawn_intents() -> None:
    kept = {"top 20 log-probabilities": 20, "top 5 log-probabilities": 5}
    assert {arm: door.keywords["k"] for arm, door in ARMS.items() if getattr(door, "func", None) is listed} == kept
    drawn = {"20 answers": 20, "5 answers": 5, "1 answer": 1}
    of_written = {arm: door.keywords["n"] for arm, door in ARMS.items() if getattr(door, "func", None) is written}
    assert of_written == {**drawn, "the likeliest intent": None}
    assert {arm: ANSWERS[arm] for arm in drawn} == drawn
    assert {ANSWERS[arm] for arm in (*kept, "the likeliest intent")} == {1}
    assert ANSWERS[REFERENCE] is None


def test_the_log_is_whole_and_the_table_is_made_of_it() -> None:
    log = read_log(LOG)
    runs = log[log["phase"].isin(["choice", "result"])]
    counts = runs.groupby(["arm", "phase"]).size().unstack()
    assert set(counts.index) == set(ARMS)
    assert (counts["choice"] == len(GRID["learning_rate"])).all()
    seeds = log[log["phase"] == "result"].groupby("arm")["seed"].apply(sorted)
    assert set(map(tuple, seeds)) == {(0, 1, 2, 3, 4)}
    assert runs["steps"].nunique() == 1
    table = summary()
    cells = cells_of_table(LOG)
    assert [float(row[3]) for row in cells] == pytest.approx(table["mean"].tolist(), abs=0.051)
    tokens = {row[0]: int(re.sub(",", "", row[2])) for row in cells if row[2] != "–"}
    once = tokens["the likeliest intent"]
    assert tokens == {arm: pytest.approx(once * n, abs=n) for arm, n in ANSWERS.items() if n}


def test_what_page_08_and_the_readme_say_is_what_the_log_says() -> None:
    table = summary()
    page = words_of_page("08_api_distillation")
    gains = {arm: f"{abs(line['difference']):.1f} ± {line['± 95%']:.1f}" for arm, line in table.iloc[1:].iterrows()}
    nll = table["NLL"]
    for passage in (
        f"is {gains['the likeliest intent']} below, twenty log-probabilities {gains['top 20 log-probabilities']},"
        f" five of them {gains['top 5 log-probabilities']}.",
        f"one answer at temperature 1 costs {gains['1 answer']}, and is behind in every seed; five cost"
        f" {gains['5 answers']} for five times the tokens, twenty {gains['20 answers']} for twenty times.",
        f"the NLL rises from {nll[REFERENCE]:.2f} to {nll['the likeliest intent']:.2f} nats",
        f"and to {nll['1 answer']:.2f} with one drawn answer",
    ):
        assert passage in page, passage
    assert (table["difference"].iloc[1:] < 0).all()
    assert (table["difference"].abs() < table["± 95%"]).iloc[1:].all(), "the page: no difference beyond chance"
    assert table.loc["1 answer", "won"] == "0 of 5"
    assert set(table.index[table["difference"] < -1]) == {"1 answer", "5 answers"}
    line = readme_row(LOG)
    assert f"{table.loc[REFERENCE, 'mean']:.1f}%" in line
    assert f"{table.loc['the likeliest intent', 'mean']:.1f}%" in line
    assert gains["1 answer"] in line
