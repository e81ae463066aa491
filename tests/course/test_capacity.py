"""Students of four widths at five temperatures: the experiment, its log, and what page 02 and the README say of it."""

import pandas as pd
import pytest
import torch
from published_text import readme_row

from distill_helpers.course.experiments import capacity
from distill_helpers.course.experiments.capacity import Arm
from distill_helpers.course.experiments.fair_arms import half_width
from distill_helpers.course.logs import read_log
from distill_helpers.data.corpora import load_digits

ENDS = ("T = 1", "T = 20")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return capacity.summary()


@pytest.fixture(scope="module")
def errors() -> pd.DataFrame:
    return capacity.by_seed()


def cost(errors: pd.DataFrame, width: int, epochs: int, before: str = "T = 1", after: str = "T = 20") -> pd.Series:
    return errors[width, epochs, after] - errors[width, epochs, before]


def test_each_arm_chose_among_all_rates_and_was_measured_once_for_each_seed() -> None:
    log = read_log(capacity.LOG)
    counts = log.pivot_table(index=["arm", "seed"], columns="phase", values="validation", aggfunc="size")
    assert set(counts.index) == {(arm, seed) for arm in capacity.ARMS for seed in capacity.SEEDS}
    assert (counts["result"] == 1).all()
    assert (counts["choice"] == len(capacity.LEARNING_RATES)).all()
    assert log.loc[log["phase"] == "result", "errors"].between(0, 500).all()
    assert log.loc[log["phase"] == "choice", "errors"].isna().all(), "test images chose"


def test_an_arm_learns_from_what_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(capacity, "teacher_logits", lambda seeds, images: images[..., :10])
    monkeypatch.setattr(capacity, "trained_side_by_side", lambda *given, **named: calls.append((given, named)))
    for arm in capacity.ARMS.values():
        capacity.train_students(arm, 1e-2, seeds=(3, 1))
    for name, ((seeds, widths, images, labels, targets, config), named) in zip(capacity.ARMS, calls, strict=True):
        assert seeds == (3, 1)
        assert torch.equal(images[0], load_digits(seed=3).train_images)
        hard = "hard labels" in name
        assert (labels is None) == (targets is not None) == (not hard)
        assert config.alpha == (0.0 if hard else 1.0)
        source = "hard labels" if hard else f"T = {config.temperature:g}"
        assert name == f"width {widths[0]}, {source}, {named['epochs']} epochs"
        assert named["epochs"] % named["n_figures"] == 0


def test_the_fit_is_measured_against_the_teacher_of_the_same_split(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_digits(seed=1)
    teachers = {seed: torch.nn.Linear(64, 10) for seed in capacity.SEEDS}
    monkeypatch.setattr(capacity, "teacher_for", lambda seed: (load_digits(seed=seed), teachers[seed]))
    wanted = teachers[1](data.train_images).detach()
    figures = capacity._figures(capacity.SEEDS, torch.eye(10)[data.test_labels], wanted, data)
    assert figures["errors"] == 0
    assert figures["train_errors"] == int((wanted.argmax(-1) != data.train_labels).sum()) > 0
    assert figures["train_kl_1"] == pytest.approx(0, abs=1e-6)
    assert capacity._figures((1,), wanted[:500], 2 * wanted, data)["train_kl_20"] > 1e-3


@pytest.mark.slow
def test_a_slice_of_the_log_is_made_again() -> None:
    arm = Arm(16, 20, 60)
    log = read_log(capacity.LOG)
    row = log[(log["phase"] == "result") & (log["arm"] == arm.name) & (log["seed"] == 1)].iloc[0]
    student = capacity.train_students(arm, row["learning_rate"], seeds=(1,))[1]
    # Another processor rounds differently; a few images of 500 may change sides.
    assert student.measure_test()["errors"] == pytest.approx(row["errors"], abs=8)


# What page 02 says


def test_a_high_temperature_costs_a_narrow_student_more(errors: pd.DataFrame) -> None:
    for epochs in (60, 240):
        costs = [cost(errors, width, epochs).mean() for width in capacity.WIDTHS]
        assert costs == sorted(costs, reverse=True)
        difference = cost(errors, 16, epochs) - cost(errors, 128, epochs)
        assert difference.mean() > half_width(difference)
    longest = {width: cost(errors, width, 960) for width in (16, 128)}
    assert round(longest[16].mean()) == 6
    assert longest[16].mean() > half_width(longest[16])
    assert abs(longest[128].mean()) < half_width(longest[128])
    assert (longest[16] - longest[128]).mean() > half_width(longest[16] - longest[128])


def test_no_temperature_above_1_is_better_than_1_nor_1_better_than_hard_labels(table: pd.DataFrame) -> None:
    others = table.dropna(subset=["more than T = 1"])
    more, half = others["more than T = 1"], others["± 95%"]
    soft = others.index.str.contains("T = ")
    assert (more > -half)[soft].all()
    assert (more < half)[~soft].all()
    for width in capacity.WIDTHS_IN_FULL:
        assert table.loc[Arm(width, 4, 240).name, "more than T = 1"] >= 0


def test_validation_too_finds_t_1_best_at_128_units(errors: pd.DataFrame) -> None:
    validation = capacity.by_seed("validation")[128, 240]
    temperatures = [name for name in validation if name.startswith("T = ")]
    assert validation[temperatures].mean().idxmax() == "T = 1" == errors[128, 240][temperatures].mean().idxmin()


def test_longer_training_helps_16_units_at_t_20(errors: pd.DataFrame) -> None:
    for label, helps in (("T = 20", True), ("T = 1", False)):
        fewer = errors[16, 60, label] - errors[16, 960, label]
        assert (fewer.mean() > half_width(fewer)) == helps
    for figure in ("train_errors", "train_kl_20"):
        of_seeds = capacity.by_seed(figure)[16]
        assert (of_seeds[960, "T = 20"] < of_seeds[60, "T = 20"]).all()
    later = capacity.by_seed("train_kl_20")[16]
    assert (later[960, "T = 20"] < later[240, "T = 20"]).sum() >= 9, "the training had come to its end"


def test_students_of_t_20_have_the_lower_loss_at_t_20_and_more_wrong_training_images(table: pd.DataFrame) -> None:
    for width in (16, 128):
        for epochs in (60, 240, 960):
            low, high = (table.loc[Arm(width, t, epochs).name] for t in (1, 20))
            assert 3 * high["train KL, T = 20"] < low["train KL, T = 20"]
            assert (high["train errors"] > 3 * low["train errors"]) == (width == 16)
    low, high = (table.loc[Arm(128, t, 960).name, "train errors"] for t in (1, 20))
    assert abs(low - high) < 2, "128 units cannot do both"


def test_the_readme_says_what_the_log_says(table: pd.DataFrame) -> None:
    row = readme_row(capacity.LOG)
    for width, epochs in ((8, 240), (16, 240), (32, 240), (128, 240), (16, 960), (128, 960)):
        more, half = table.loc[Arm(width, 20, epochs).name, ["more than T = 1", "± 95%"]]
        assert f"{more:.1f} ± {half:.1f}".replace("-", "−") in row, (width, epochs)
