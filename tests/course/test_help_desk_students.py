"""The students of the help desk: what their log has, and what each factor is worth."""

import json
import re
from dataclasses import asdict

import pytest
from published_text import readme_row

from distill_helpers.course import tasks
from distill_helpers.course.experiments import help_desk_students, linear_models, teacher_choice
from distill_helpers.course.experiments.fair_arms import half_width
from distill_helpers.course.experiments.help_desk_students import ARMS, BEST, FACTORS, GRID, LOG, factors, summary
from distill_helpers.course.folders import ROOT
from distill_helpers.course.logs import RESULTS, read_log
from distill_helpers.course.tasks import get_task
from distill_helpers.models.loading import COURSE_MODELS

LABELS = tuple(linear_models.LABELS)


def test_the_arms_have_the_same_texts_and_as_many_steps_as_they_chose() -> None:
    log = read_log(LOG)
    runs = log[log["phase"] != "teacher"]
    assert set(runs["arm"]) == set(ARMS)
    for arm, texts in runs.groupby("arm")["texts"].unique().items():
        assert list(texts) == [len(get_task("help-desk").labelled_texts(with_transfer=ARMS[arm].transfer))]
    assert (runs["steps"] / runs["max_steps"]).between(0.9, 1.1).all(), "an epoch is not cut, but no arm has far more"
    for length, steps in runs.groupby("max_steps")["steps"]:
        assert steps.max() / steps.min() < 1.12, f"at {length} some arms have more steps than others"


def test_a_factor_is_one_difference() -> None:
    for name, (more, less) in list(FACTORS.items())[:-1]:
        one, other = asdict(ARMS[more]), asdict(ARMS[less])
        assert sum(one[key] != other[key] for key in one) == 1, name
    assert set(FACTORS[f"text, {LABELS[0]}"]) == {f"{LABELS[0]}, {texts}" for texts in linear_models.TEXTS}


def test_the_gains_are_taken_seed_by_seed() -> None:
    log = read_log(LOG)
    by_seed = log[log["phase"] == "result"].set_index(["arm", "seed"])["accuracy"]
    for name, row in factors().iterrows():
        more, less = FACTORS[str(name)]
        gains = [100 * (by_seed[more, seed] - by_seed[less, seed]) for seed in range(5)]
        assert row["points"] == pytest.approx(sum(gains) / 5)
        assert row["won"] == f"{sum(gain > 0 for gain in gains)} of 5"


def test_the_teacher_is_the_shipped_one_cut_from_a_tuned_one() -> None:
    measured = json.loads((COURSE_MODELS / "help-desk-teacher" / "manifest.json").read_text())["measured"]
    log = read_log(LOG)
    (logged,) = log[log["phase"] == "teacher"]["accuracy"]
    assert measured["test_accuracy"] == pytest.approx(logged, abs=1e-4)
    candidates = read_log("teacher-choice").query("phase == 'candidate' and kind == 'every weight, messages'")
    best = candidates.loc[candidates["validation"].idxmax()]
    task = get_task("help-desk")
    assert task.lora_rank is None
    assert (best["learning_rate"], len(best["curve"])) == (task.teacher.learning_rate, task.teacher.epochs)
    assert best["validation"] - 0.02 < measured["validation_accuracy"] <= best["validation"], "cutting costs little"


def test_the_table_is_that_of_the_log() -> None:
    lines = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8").split("\n\n")[0].splitlines()[2:]
    table = summary()
    assert [float(line.split("|")[2]) for line in lines] == pytest.approx(table["mean"].tolist(), abs=0.051)
    assert table.loc[BEST, "kept %"] == pytest.approx(100 * table.loc[BEST, "mean"] / table.loc["teacher", "mean"])


@pytest.mark.slow
def test_a_short_training_says_what_it_spent_and_leaves_nothing_behind(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(tasks, "WORK", tmp_path)
    trained = help_desk_students.train_student(f"{LABELS[0]}, messages", 1e-3, max_steps=80, seed=0)
    assert len(trained.validation) == 2
    assert trained.budget == {"texts": 2517, "steps": 80}
    assert not any((tmp_path / "runs").iterdir())


def test_what_page_05_and_the_readme_say_is_what_the_log_says() -> None:
    table, worth = summary(), factors()
    page = (ROOT / "notebooks" / "source" / "05_response_distillation.py").read_text(encoding="utf-8")
    page = " ".join(re.sub(r"(?m)^# ", "", page).split())
    (senders, chosen, others), (alone, both) = LABELS, linear_models.TEXTS
    points = {name: f"{row['points']:.1f} ± {row['± 95%']:.1f}" for name, row in worth.iterrows()}
    mean, kept, nll = table["mean"], table["kept %"], table["NLL"]
    lines = linear_models.summary()["accuracy %"].filter(like=senders)
    soft = {texts: f"softness, {texts}" for texts in (alone, both)}
    by_seed = (
        read_log(LOG).query("phase == 'result'").pivot_table(index="seed", columns="arm", values=["accuracy", "nll"])
    )
    by_labels = {
        labels: by_seed["accuracy"][f"{labels}, {both}"] - by_seed["accuracy"][f"{labels}, {alone}"]
        for labels in LABELS
    }
    more = 100 * (by_labels[chosen] - by_labels[senders])
    for passage in (
        f"the windows bring a student of the senders' queues {points[f'text, {senders}']} points",
        f"bring a student of the messages {points[f'teacher, {alone}']}: each",
        f"With the windows the teacher's choices bring {points[f'teacher, {both}']}, in every seed, which is"
        f" {more.mean():.1f} ± {half_width(more):.1f} more",
        f"Softness adds {points[soft[both]]} points there, in all five seeds. (On the messages alone,"
        f" {points[soft[alone]]}, in {worth.loc[soft[alone], 'won']} seeds.)",
        f"NLL falls from {nll[f'{chosen}, {both}']:.2f} to {nll[BEST]:.2f}, in every seed",
        f"pay together on the help desk: {table.loc[BEST, 'difference']:.1f} points",
        f"keeps {kept[BEST]:.1f}% of its teacher's accuracy",
        f"{mean[BEST]:.1f}% against the {lines.max():.1f}% of tf-idf",
        f"{mean[f'{senders}, {alone}']:.1f}%, and {mean[f'{senders}, {both}']:.1f}% with the windows, where tf-idf has"
        f" {lines[f'tf-idf, {senders}, {alone}']:.1f} and {lines[f'tf-idf, {senders}, {both}']:.1f}%",
    ):
        assert passage in page, passage
    assert (by_seed["nll"][BEST] < by_seed["nll"][f"{chosen}, {both}"]).all()
    for name in (f"teacher, {both}", soft[both]):
        assert worth.loc[name, "won"] == "5 of 5"
        assert worth.loc[name, "points"] > worth.loc[name, "± 95%"]
    for name in (f"text, {senders}", f"teacher, {alone}", soft[alone]):
        assert worth.loc[name, "points"] < worth.loc[name, "± 95%"], "may be next to nothing"
    assert table.loc[BEST, "won"] == "5 of 5"
    validation = 100 * read_log(LOG).query("phase == 'result'").groupby("arm")["validation"].mean()
    assert f"the six arms lie between {validation.min():.1f} and {validation.max():.1f}%" in page
    below, above = ([mean[f"{labels}, {texts}"] for labels in (chosen, others)] for texts in (alone, both))
    assert max(below) < lines.max() < min(above), "the figure's alternative text"
    lowest = read_log(LOG).query("phase == 'result'").groupby("arm")["learning_rate"].max() == min(
        GRID["learning_rate"]
    )
    assert set(lowest.index[lowest]) == {
        f"{labels}, {texts}" for labels in (chosen, others) for texts in (alone, both)
    }, "took the lowest rate"
    hard = mean[[f"{senders}, {texts}" for texts in (alone, both)]]
    assert hard.max() < lines[f"frozen encoder, {senders}, {alone}"] < lines.max()


def test_the_bars_of_the_help_desk() -> None:
    """At most 1/20 of the teacher's parameters, 96% of its accuracy, a point above every row without a teacher."""
    log, table = read_log(LOG), summary()
    sizes = log[log["phase"] != "choice"].groupby("phase")["parameters"].unique()
    assert sizes["result"].item() <= sizes["teacher"].item() / 20
    assert table.loc[BEST, "kept %"] >= 96
    without = [*linear_models.summary()["accuracy %"].filter(like=LABELS[0]), *table["mean"].filter(like=LABELS[0])]
    assert table.loc[BEST, "mean"] >= max(without) + 1


def test_the_readme_says_what_the_logs_say() -> None:
    students, teachers = readme_row(LOG), readme_row("teacher-choice")
    table = summary()
    rows = [*(f"{labels}, {texts}" for labels in LABELS for texts in linear_models.TEXTS)]
    stated = [*table.loc[rows, "mean"], table.loc[BEST, "kept %"], table.loc["teacher", "mean"]]
    assert re.findall(r"(\d+\.\d)%", students) == [f"{value:.1f}" for value in stated]
    doubts = factors().loc["softness, messages and windows"]
    assert f"its doubts {doubts['points']:.1f} ± {doubts['± 95%']:.1f} points" in students
    lead = table.loc[BEST, "mean"] - table["mean"].iloc[1]
    assert f"{lead:.1f} points above the best model without a teacher" in students
    accuracy = teacher_choice.summary()["accuracy %"]
    order = ["every weight, messages", "adapter, messages"]
    order += [f"{name} and windows" for name in order]
    assert re.findall(r"(\d+\.\d)%", teachers) == [
        f"{value:.1f}" for value in (*accuracy[order], accuracy.iloc[-1], accuracy["Banking77: every weight"])
    ]
