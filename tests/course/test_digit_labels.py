"""Students that lack a digit, and four kinds of labels at several budgets: experiments, logs, and what page 01 says."""

import math
import re

import pandas as pd
import pytest
import torch
from published_text import readme_row

from distill_helpers.course.experiments import label_budget, withheld_digit
from distill_helpers.course.experiments.digit_arms import only, teacher_logits, together, trained_side_by_side
from distill_helpers.course.experiments.digits import error_count, predict, teacher_for
from distill_helpers.course.experiments.withheld_digit import best_bias, raise_bias, without_ranking
from distill_helpers.course.logs import read_log
from distill_helpers.data.corpora import ImageSplits, load_digits
from distill_helpers.losses.distillation_config import DistillationConfig

HARD, SOFT, EVEN = "hard labels, no 3s", "soft labels, no 3s", "soft labels without the ranking, no 3s"


@pytest.fixture(scope="module")
def students() -> pd.DataFrame:
    """The measured students that lack digits: a row for each seed, the columns figure and arm."""
    figures = ["errors", "errors_on_3s", "errors_corrected", "errors_on_3s_corrected"]
    return withheld_digit.results().pivot_table(index="seed", columns="arm", values=figures)


@pytest.mark.parametrize(
    ("log", "arms", "n_settings"),
    [
        (withheld_digit.LOG, list(withheld_digit.ARMS), math.prod(map(len, withheld_digit.GRID.values()))),
        (label_budget.LOG, list(label_budget.ARMS), len(label_budget.LEARNING_RATES)),
    ],
)
def test_each_arm_was_tried_on_the_whole_grid_and_measured_once_for_each_of_ten_seeds(log, arms, n_settings) -> None:
    lines = read_log(log)
    runs = lines[lines["phase"].isin(["choice", "result"])]
    counts = runs.pivot_table(index=["arm", "seed"], columns="phase", values="validation", aggfunc="size")
    assert set(counts.index) == {(arm, seed) for arm in arms for seed in range(10)}
    assert (counts["result"] == 1).all()
    assert (counts["choice"] == n_settings).all()
    assert lines.loc[lines["phase"] == "result", "errors"].between(0, 500).all()
    assert lines.loc[lines["phase"] == "choice", "errors"].isna().all(), "test images chose"


def test_a_student_that_lacks_digits_does_not_learn_from_them_and_chooses_as_its_arm_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, splits = [], [load_digits(seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(withheld_digit, "load_digits", lambda seed: splits[seed])
    monkeypatch.setattr(withheld_digit, "teacher_logits", lambda seeds, images: images[..., :10])
    monkeypatch.setattr(withheld_digit, "trained_side_by_side", lambda *given, **named: calls.append((given, named)))
    for arm in withheld_digit.ARMS:
        withheld_digit.train_students(arm, 3e-3, 240, seeds=(0, 1))
    all_steps = 240 * 35
    for arm, ((_, _, images, labels, targets, config), named) in zip(withheld_digit.ARMS, calls, strict=True):
        seen = withheld_digit.ARMS[arm].seen
        assert seen == ([7, 8] if "7s and 8s" in arm else [0, 1, 2, 4, 5, 6, 7, 8, 9])
        assert list(named["chosen_by"]) == (list(range(10)) if "chosen by all digits" in arm else seen)
        for number, (part, data) in enumerate(zip(images, splits, strict=True)):
            rows = torch.isin(data.train_labels, torch.tensor(seen))
            assert torch.equal(part, data.train_images[rows])
            if labels is not None:
                assert torch.equal(labels[number], data.train_labels[rows])
        assert (labels is None) == (config.alpha == 1) == (targets is not None) == (not arm.startswith("hard"))
        assert named["epochs"] % named["n_figures"] == 0
        assert named["epochs"] * math.ceil(images.shape[1] / 32) == pytest.approx(all_steps, rel=0.02)


def test_only_keeps_each_seeds_images_of_some_digits_in_their_order() -> None:
    labels = torch.tensor([[0, 1, 2, 1], [1, 2, 1, 0]])
    images = torch.arange(8.0).view(2, 4, 1)
    kept, of_kept = only([0, 1], images, labels)
    assert kept.squeeze(-1).tolist() == [[0, 1, 3], [4, 6, 7]]
    assert of_kept.tolist() == [[0, 1, 1], [1, 1, 0]]


def test_the_choice_is_made_by_the_named_digits_and_the_figures_of_the_named_parts() -> None:
    splits = [load_digits(seed=seed) for seed in (0, 1)]
    images, labels = (together(splits, f"train_{part}") for part in ("images", "labels"))
    seen = []

    def measure(validation_logits: torch.Tensor, test_logits: torch.Tensor, data: ImageSplits) -> dict[str, float]:
        seen.append((len(validation_logits), len(test_logits)))
        return {"errors": error_count(validation_logits, data.validation_labels)}

    trained = trained_side_by_side(
        (0, 1),
        (16,),
        *only([7, 8], images, labels),
        None,
        DistillationConfig(alpha=0.0),
        measure=measure,
        measured_on=("validation_images", "test_images"),
        chosen_by=[7, 8],
        epochs=10,
        n_figures=5,
        learning_rate=1e-2,
    )
    figures = trained[0].measure_test()
    assert seen == [(200, 500)]
    assert figures["errors"] >= 160, "nobody told it of the other eight digits"
    assert 38 < max(trained[0].validation) < 41, "forty images choose, and nearly all are right"


def test_a_live_student_is_trained_with_the_settings_that_its_seed_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def train_students(arm, learning_rate, epochs, seeds, measure):
        asked.append((arm, learning_rate, epochs, seeds))
        student = type("Student", (), {"measure_test": lambda self: measure("validation", "test", None)})
        return {seeds[0]: student()}

    monkeypatch.setattr(withheld_digit, "train_students", train_students)
    assert withheld_digit.student_logits(SOFT, 3) == ("validation", "test")
    log = read_log(withheld_digit.LOG)
    (run,) = log.query("phase == 'result' and arm == @SOFT and seed == 3").to_dict("records")
    assert asked == [(SOFT, run["learning_rate"], run["epochs"], (3,))]


@pytest.mark.slow
def test_a_slice_of_both_logs_is_made_again() -> None:
    log = read_log(withheld_digit.LOG)
    (run,) = log.query("phase == 'result' and arm == @EVEN and seed == 1").to_dict("records")
    _, logits = withheld_digit.student_logits(EVEN, 1)
    data, teacher = teacher_for(1)
    # Another processor rounds differently; a few images of 500 may change sides.
    assert error_count(logits, data.test_labels) == pytest.approx(run["errors"], abs=8)
    torch.testing.assert_close(teacher_logits((1,), data.train_images[None])[0], predict(teacher, data.train_images))
    arm = label_budget.Arm("soft labels, T = 4", 60)
    (run,) = read_log(label_budget.LOG).query("phase == 'result' and arm == @arm.name and seed == 1").to_dict("records")
    students = label_budget.train_students(arm, run["learning_rate"], seeds=(1,))
    assert students[1].measure_test()["errors"] == pytest.approx(run["errors"], abs=8)


def test_the_best_bias_makes_the_fewest_errors() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, -1.0]])
    labels = torch.tensor([0, 0, 1])
    logits = torch.nn.functional.pad(logits, (0, 8), value=-50.0)
    assert error_count(logits, labels) == 3
    bias = best_bias(logits, labels, (0,))
    assert bias > 2
    assert error_count(raise_bias(logits, (0,), bias), labels) == 1  # the 1 stays wrong
    assert error_count(logits, labels, digit=1) == 1


def test_biases_leave_the_callers_logits_alone() -> None:
    logits = torch.zeros(2, 10)
    raised = raise_bias(logits, (3, 4), 1.5)
    assert logits.abs().max() == 0
    assert raised.sum() == 6.0


def test_without_the_ranking_labels_are_as_soft_and_tell_nothing_of_the_wrong_classes() -> None:
    logits = 4 * torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    for temperature in (0.05, 1.0, 20.0):
        soft, flat = (
            (logits / temperature).softmax(-1),
            (without_ranking(logits, temperature) / temperature).softmax(-1),
        )
        torch.testing.assert_close(flat.amax(-1), soft.amax(-1))
        assert torch.equal(flat.argmax(-1), soft.argmax(-1))
        others = flat.sort(dim=-1, descending=True)[0][:, 1:]
        torch.testing.assert_close(
            others, ((1 - soft.amax(-1, keepdim=True)) / 9).expand_as(others), rtol=1e-4, atol=1e-6
        )
        assert without_ranking(logits, temperature).isfinite().all()
    with pytest.raises(ValueError, match=r"got 0\.0"):
        without_ranking(logits, 0.0)


def test_the_teachers_find_a_3_in_2s_and_5s_and_9s_more_often_than_in_8s() -> None:
    log = read_log(withheld_digit.LOG)
    counts = torch.tensor(log.loc[log["phase"] == "teacher", "second_choice_3"].tolist(), dtype=torch.float64)
    assert len(counts) == 10
    share = counts.mean(dim=0) / load_digits().train_labels.bincount()
    assert 0.6 < share[2] < 0.7
    assert 0.6 < share[5] < 0.7
    assert 0.35 < share[9] < 0.4
    assert 0.25 < share[8] < 0.3
    assert 0.25 < share[7] < 0.3


def test_what_page_01_says_of_the_students_that_have_never_seen_a_3(students: pd.DataFrame) -> None:
    missed, corrected = students["errors_on_3s"], students["errors_on_3s_corrected"]
    assert (missed[[HARD, EVEN]] == 51).all(axis=None)
    assert (missed[SOFT] < 51 / 2).all()
    assert (corrected[SOFT] < missed[SOFT]).all()
    assert (students["errors_corrected", SOFT] < students["errors", SOFT]).sum() == 8
    assert (corrected[SOFT] < corrected[EVEN]).all()
    assert 51 - corrected[EVEN].mean() == pytest.approx(51 / 2, abs=2), "half of the threes"
    assert 51 - corrected[HARD].mean() == pytest.approx(51 / 5, abs=2), "one in five"
    assert corrected[SOFT].max() <= 6
    assert (51 - corrected[HARD]).agg(["min", "max"]).tolist() == [0, 28]
    assert students["errors", HARD].mean().round() == students["errors_corrected", HARD].mean().round() == 61


def test_what_page_01_says_of_the_student_of_7s_and_8s(students: pd.DataFrame) -> None:
    by_all, by_seen = "soft labels, only 7s and 8s, chosen by all digits", "soft labels, only 7s and 8s"
    errors, corrected = students["errors"], students["errors_corrected"]
    assert (corrected[by_all] < errors[by_all]).all()
    log = read_log(withheld_digit.LOG)
    best = log[log["phase"] == "result"].groupby("arm")["best_epoch"].median()
    assert best[by_seen] < best[by_all] / 2, "its own images stop it early"
    assert corrected[by_all].mean() < corrected[by_seen].mean()
    assert corrected[by_all].mean() == pytest.approx(500 / 4, rel=0.05), "three images in four are right"


def test_the_readme_says_how_many_threes_each_student_knows(students: pd.DataFrame) -> None:
    row = readme_row(withheld_digit.LOG)
    known, corrected = 51 - students["errors_on_3s"], 51 - students["errors_on_3s_corrected"]
    stated = [
        (f"{figures[arm].mean():.0f}", f"{figures[arm].std():.0f}")
        for figures, arm in ((known, SOFT), (corrected, SOFT), (corrected, EVEN), (corrected, HARD))
    ]
    assert re.findall(r"(\d+) ± (\d+)", row) == stated
    assert (known[[EVEN, HARD]] == 0).all(axis=None)
    assert row.count("none") == 2


def test_what_page_01_and_the_readme_say_of_the_labels_of_all_digits() -> None:
    table, row = label_budget.summary(), readme_row(label_budget.LOG)
    differences = {kind: [] for kind in label_budget.KINDS}
    for epochs in label_budget.EPOCHS:
        for kind, found in differences.items():
            line = table.loc[label_budget.Arm(kind, epochs).name]
            found.append(line["difference"])
            if kind != "hard labels":
                assert abs(line["difference"]) > line["± 95%"], f"{kind} after {epochs} epochs: it may be luck"
    soft = differences["soft labels, T = 4"] + differences["soft labels, T = 20"]
    assert f"they make {min(soft):.0f} to {max(soft):.0f} errors of 500 more" in row
    smoothed = differences["label smoothing 0.1"]
    assert f"makes {-max(smoothed):.0f} to {-min(smoothed):.0f} fewer than hard labels" in row
    assert f"after {label_budget.EPOCHS[0]}, {label_budget.EPOCHS[1]} and {label_budget.EPOCHS[2]} epochs" in row
    hard = table.loc[[label_budget.Arm("hard labels", epochs).name for epochs in label_budget.EPOCHS], "mean"]
    assert hard.between(11, 12).all()
    teachers = withheld_digit.results().query("arm == @withheld_digit.TEACHER")["errors"]
    assert teachers.mean() == pytest.approx(10.5)


def test_what_page_01_says_of_the_validation_curves() -> None:
    runs = label_budget.results().query("epochs == @label_budget.EPOCHS[-1]")
    wrong = {
        kind: (200 - torch.tensor(runs.loc[runs["kind"] == kind, "curve"].tolist()).floor()).mean(dim=0)
        for kind in label_budget.KINDS
    }
    hard, smoothed, *soft = wrong.values()
    fifth, late = label_budget.N_FIGURES // 5 - 1, 150 * label_budget.N_FIGURES // 240
    assert hard.argmin() <= fifth
    assert hard[-1] > hard.min() + 0.5
    for curve in soft:
        assert curve[fifth] > hard[fifth]
        assert curve[-1] < hard[-1]
        assert (curve[late:] - curve[late:].mean()).abs().max() < 0.5, "flat"
    assert all((smoothed < curve).all() for curve in (hard, *soft))
    assert all((curve.min() - hard.min()).abs() < 1 for curve in soft), "too few validation images to rank them"
