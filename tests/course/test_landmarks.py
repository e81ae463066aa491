"""The landmark systems and their ablations: equal budgets, and each arm beside the right reference."""

import dataclasses
import re

import pandas as pd
import pytest
import torch
from published_text import cells_of_table

from distill_helpers.course.experiments import fair_arms, freezing, landmark_ablations, landmark_arms, landmarks
from distill_helpers.course.experiments.landmark_arms import GRID
from distill_helpers.course.experiments.landmarks import (
    HARD_LABELS,
    LOG,
    REFERENCES,
    SYSTEMS,
    gains,
    summary,
)
from distill_helpers.course.logs import read_log
from distill_helpers.course.tasks import get_task
from distill_helpers.landmarks import stages
from distill_helpers.llm.synthetic_data import SyntheticMessage
from distill_helpers.training.distilled_student import DistilledStudent

EXPERIMENTS = (landmarks, landmark_ablations, freezing)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_arm_reads_as_many_texts(experiment) -> None:
    runs = read_log(experiment.LOG).query("phase in ('choice', 'result')")
    assert set(runs["arm"]) == set(experiment.ARMS)
    assert runs.groupby("arm")["texts read"].nunique().eq(1).all()
    longer = runs["arm"].str.startswith("TinyBERT") & (experiment is landmark_ablations)
    texts = 20_000 * (1 + longer)
    assert runs["texts read"].between(0.98 * texts, 1.02 * texts).all()


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A help desk of 40 messages, 24 windows and three written messages, on which nothing is trained."""
    task = get_task("help-desk")
    data = task.data
    small = dataclasses.replace(
        data,
        train=data.train.subset(range(0, 2400, 60)),
        validation=data.validation.subset(range(6)),
        test=data.test.subset(range(6)),
        transfer=data.transfer[:24],
        transfer_labels=data.transfer_labels[:24],
    )
    task.__dict__["data"] = small
    good = "my old apple powerbook with system seven does not see the external scsi drive any more"
    off_topic = "my machine does not start since last week and i have no idea what it could be"
    unsure = "there is nothing that anybody could say about it before next week or the one after"
    written = [SyntheticMessage(text, "comp.sys.mac.hardware") for text in (good, off_topic, unsure)]
    for module in (landmark_arms, landmarks):
        monkeypatch.setattr(module, "help_desk", lambda: task)
    monkeypatch.setattr(landmark_arms, "N_TRANSFER", 24)
    for module in (landmark_arms, landmarks):
        monkeypatch.setattr(module, "synthetic_messages", lambda: written)
    monkeypatch.setattr(landmark_arms, "WORK", tmp_path)
    monkeypatch.setattr(landmark_arms, "run_folder", lambda *names: tmp_path / "run")
    landmark_arms.n_texts.cache_clear()
    told = []

    def train(student, train, validation, config, **settings):
        settings["output_dir"].mkdir(parents=True, exist_ok=True)
        told.append((student, train, config, settings))
        history = pd.DataFrame({"eval_accuracy": [0.5]})
        return DistilledStudent(student.model, student.tokenizer, history, settings["output_dir"])

    monkeypatch.setattr(stages, "train_student_with_distillation", train)
    yield told
    landmark_arms.n_texts.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "arm"), [(one, arm) for one in EXPERIMENTS for arm in one.ARMS])
def test_the_budget_of_an_arm_is_what_its_stages_were_told(few, experiment, arm) -> None:
    trained = experiment.train_student(arm, 1e-4, seed=3)
    spent = [(len(train), settings["n_epochs"], settings["batch_size"]) for _, train, _, settings in few]
    assert trained.budget == {
        "texts": max(n for n, _, _ in spent),
        "texts read": sum(n * epochs for n, epochs, _ in spent),
        "steps": sum(-(-n // size) * epochs for n, epochs, size in spent),
    }
    assert {(s["learning_rate"], s["seed"], s["group_by_length"]) for *_, s in few} == {(1e-4, 3, True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_hard_labels_have_the_shape_and_the_start_of_the_system(few, name) -> None:
    landmarks.train_student(name, 1e-4, seed=3)
    system = few[0][0].model
    few.clear()
    landmarks.train_student(REFERENCES[name], 1e-4, seed=3)
    ((student, train, config, _),) = few
    assert (config.alpha, config.uses_features, train.teacher_logits) == (0.0, False, None)
    assert -100 not in train.labels
    own, others = (model.state_dict() for model in (student.model, system))
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in others.items()}
    matrices = [key for key, value in own.items() if value.dim() == 2 and "classifier" not in key]
    equal = {key for key in matrices if torch.equal(own[key], others[key])}
    assert equal == set(matrices) or name == "prune and heal"  # which is pruned by other messages here


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_log_is_whole(experiment) -> None:
    log = read_log(experiment.LOG)
    runs = log[log["phase"].isin(["choice", "result"])]
    n_choices = len(GRID["learning_rate"])
    assert runs.groupby("arm")["phase"].agg(lambda of_arm: (of_arm == "choice").sum()).eq(n_choices).all()
    assert {tuple(sorted(seeds)) for _, seeds in runs.groupby("arm")["seed"]} == {(*range(5), *[100] * n_choices)}


def test_an_ablation_is_compared_with_the_whole_recipe_at_its_rate_seed_by_seed() -> None:
    cells, table = {row[0]: row for row in cells_of_table(landmark_ablations.LOG)}, landmark_ablations.summary()
    log, whole = read_log(landmark_ablations.LOG), landmarks.runs_of("DistilBERT").query("phase == 'result'")
    at_rate = {5e-4: whole, 1.2e-3: log.query("phase == 'other rate'")}
    assert set(whole["learning_rate"]) == {5e-4}
    for name in landmark_ablations.ABLATIONS:
        runs = log.query("phase == 'result' and arm == @name").set_index("seed")
        beside = log.query("phase == 'result' and arm == 'TinyBERT'")
        if name.startswith("DistilBERT"):
            beside = at_rate[runs["learning_rate"].iloc[0]]
        gain = 100 * (runs["accuracy"] - beside.set_index("seed")["accuracy"])
        assert len(gain.dropna()) == 5
        assert float(cells[name][4]) == pytest.approx(gain.mean(), abs=0.051)
        assert table.loc[name, "difference"] == pytest.approx(gain.mean())
        assert cells[name][6] == f"{(gain < 0).sum()} of 5"
    assert list(cells) == list(table.index)


def test_the_table_is_made_of_the_log() -> None:
    table, cells = summary(), cells_of_table(LOG)
    assert [row[0] for row in cells] == ["teacher", *SYSTEMS, *HARD_LABELS] == list(table.index)
    assert [float(row[4]) for row in cells] == pytest.approx(table["accuracy %"].tolist(), abs=0.051)
    shown = {row[0]: float(row[7]) for row in cells if re.fullmatch(r"[+-]\d+\.\d", row[7])}
    assert shown == pytest.approx(gains()["difference"].to_dict(), abs=0.051)


def test_a_gain_is_over_the_reference_of_the_same_seed() -> None:
    log = read_log(LOG).query("phase == 'result'").set_index(["arm", "seed"])["accuracy"]
    for name, reference in REFERENCES.items():
        differences = [100 * (log[name, seed] - log[reference, seed]) for seed in range(5)]
        line = gains().loc[name]
        assert line["difference"] == pytest.approx(sum(differences) / 5)
        assert line["won"] == f"{sum(d > 0 for d in differences)} of 5"


def test_named_arms_are_run_alone_and_make_no_table(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(fair_arms, "compare_arms", lambda log, arms, grid, train: asked.append((log, arms, grid)))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr("sys.argv", ["landmarks", "--arms", "MiniLM"])
    assert not fair_arms.make_runs(LOG, landmarks.ARMS, GRID, landmarks.train_student)
    monkeypatch.setattr("sys.argv", ["landmarks"])
    assert fair_arms.make_runs(LOG, landmarks.ARMS, GRID, landmarks.train_student)
    assert asked == [(LOG, ["MiniLM"], GRID), (LOG, list(landmarks.ARMS), GRID)]
    monkeypatch.setattr("sys.argv", ["landmarks", "--arms", "BERT"])
    with pytest.raises(SystemExit):
        fair_arms.make_runs(LOG, landmarks.ARMS, GRID, landmarks.train_student)
