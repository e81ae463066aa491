"""Alpha, T² and the variance of the gradient: experiments, logs, and what the pages 03 and 04 and the README say."""

import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from published_text import readme_row
from torch import nn

from distill_helpers.course.experiments import alpha, gradient_variance, rising_kl, t_squared
from distill_helpers.course.experiments.digits import make_mlp, smoothed_label_logits
from distill_helpers.course.experiments.fair_arms import chosen_settings
from distill_helpers.course.experiments.gradient_variance import TARGETS, logit_gradients
from distill_helpers.course.logs import read_log


@pytest.mark.parametrize(
    ("log", "arms", "rates"),
    [
        ("alpha", list(alpha.ARMS), alpha.GRID["learning_rate"]),
        *(
            (log, [n for n, a in t_squared.ARMS.items() if a.log == log], t_squared.GRIDS[log])
            for log in t_squared.LOGS
        ),
    ],
)
def test_each_arm_tried_every_learning_rate_and_was_measured_once_for_each_of_ten_seeds(log, arms, rates) -> None:
    lines = read_log(log)
    counts = lines.pivot_table(index=["arm", "seed"], columns="phase", values="validation", aggfunc="size")
    assert set(counts.index) == {(arm, seed) for arm in arms for seed in range(10)}
    assert (counts["result"] == 1).all()
    assert (counts["choice"] == len(rates)).all()
    assert lines.loc[lines["phase"] == "result", "errors"].between(0, 500).all()


def test_smoothed_labels_train_as_pytorchs_label_smoothing_does() -> None:
    labels = torch.tensor([3, 0, 9])
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = smoothed_label_logits(labels, 0.1)
    ours = logit_gradients(logits, labels, targets, TARGETS["T = 1"]) / 3
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, labels, label_smoothing=0.1), logits)
    torch.testing.assert_close(ours, theirs)
    assert smoothed_label_logits(labels.expand(2, 3), 0.1).shape == (2, 3, 10)
    for amount in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match=f"got {amount}"):
            smoothed_label_logits(labels, amount)


def test_arms_that_are_the_same_training_are_one() -> None:
    assert len(alpha.ARMS) == 16 + 2
    names = {name for name in alpha.ARMS if "wrong, teacher's too" in name}
    assert names == {f"20% wrong, teacher's too, alpha {a:g}" for a in alpha.ALPHAS if a > 0}
    assert "20% wrong, alpha 1" not in alpha.ARMS
    errors = alpha.errors_by_seed()
    assert errors.shape == (10, 18)
    assert errors["20% wrong", 0.0].equals(errors["20% wrong, teacher's too", 0.0])
    assert errors["right", 1.0].equals(errors["20% wrong", 1.0])


@pytest.mark.slow
def test_a_slice_of_the_logs_is_made_again() -> None:
    # Another processor rounds differently; a few images of 500 may change sides.
    arm = alpha.Arm("20% wrong", 0.7)
    rate = chosen_settings(read_log("alpha")).loc[(arm.name, 1), "learning_rate"]
    again = alpha.train_students(arm, rate, seeds=(1,))[1].measure_test()
    log = read_log("alpha")
    [row] = log[(log["phase"] == "result") & (log["arm"] == arm.name) & (log["seed"] == 1)].to_dict("records")
    assert again["errors"] == pytest.approx(row["errors"], abs=8)
    assert again["teacher_errors"] == pytest.approx(row["teacher_errors"], abs=4)
    log = read_log("gradient-variance")
    settings = {"trained_on": "T = 20", "epochs": 3, "measured": "T = 20", "seed": 1}
    [row] = [row for row in log.to_dict("records") if settings.items() <= row.items()]
    assert gradient_variance.run(**settings)["relative_variance"] == pytest.approx(row["relative_variance"], rel=0.3)


def test_the_variance_is_that_of_gradients_taken_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    images, v = torch.rand(7, 64, generator=generator), 3 * torch.randn(7, 10, generator=generator)
    labels, model = torch.arange(7), make_mlp((5,), seed=0)
    for name, config in TARGETS.items():
        at_logits = logit_gradients(model(images), labels, v, config)
        variance, squared_norm = gradient_variance.gradient_variance(model, images, at_logits)
        rows = []
        for row in range(7):
            z = model(images[row : row + 1])
            t = config.temperature
            soft = t**2 * F.kl_div((z / t).log_softmax(-1), (v[row : row + 1] / t).softmax(-1), reduction="sum")
            loss = F.cross_entropy(z, labels[row : row + 1]) if name == "hard labels" else soft
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
        each = torch.stack(rows)
        assert variance == pytest.approx(float(each.var(dim=0, correction=0).sum()), rel=1e-4)
        assert squared_norm == pytest.approx(float(each.mean(dim=0).square().sum()), rel=1e-4)


def test_a_factor_of_the_loss_does_not_change_the_relative_variance() -> None:
    model, images = nn.Linear(4, 3), torch.rand(5, 4, generator=torch.Generator().manual_seed(1))
    at_logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    one = gradient_variance.gradient_variance(model, images, at_logits)
    ten = gradient_variance.gradient_variance(model, images, 10 * at_logits)
    assert ten[0] / ten[1] == pytest.approx(one[0] / one[1])
    assert ten[0] == pytest.approx(100 * one[0])


def test_a_diverged_student_counts_as_one_that_gets_nothing_right(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = t_squared.Trained([150.2, math.nan], lambda: {"errors": 40}, {"images": 1, "steps": 1})
    monkeypatch.setattr(t_squared, "trained_side_by_side", lambda *_, **__: {0: seen})
    monkeypatch.setattr(t_squared, "teacher_logits", lambda *_: None)
    trained = t_squared.train_students(t_squared.Arm("SGD", 1.0, 16, True), 1e4, (0,))
    assert trained[0].validation == [150.2, 0.0]


def own_variance(epochs: int) -> pd.DataFrame:
    """Of students that learn from the labels that are measured: a row for each seed."""
    log = read_log("gradient-variance")
    own = log[(log["epochs"] == epochs) & ((log["measured"] == log["trained_on"]) | (epochs == 0))]
    return own.pivot_table(index="seed", columns="measured", values="relative_variance")


def test_what_page_04_says_of_the_variance_of_the_gradient() -> None:
    start, third, last = (own_variance(epochs) for epochs in (0, 3, 60))
    less = start.rdiv(start["hard labels"], axis=0)
    assert less["T = 1"].between(1.02, 1.05).all()
    assert less["T = 4"].between(1.2, 1.6).all()
    assert less["T = 20"].between(3.3, 5.1).all()
    assert (third["T = 20"] < third["hard labels"]).sum() == 8
    assert third["T = 20"].median() < third["hard labels"].median() / 2
    assert last.median().min() > 5000
    log = read_log("gradient-variance")
    of_hard = log[(log["epochs"] == 3) & (log["trained_on"] == "hard labels")]
    same = of_hard.pivot_table(index="seed", columns="measured", values="relative_variance")
    assert (same["T = 20"] * 3 < same["hard labels"]).all()


def test_what_page_03_says_of_the_kl_that_rises() -> None:
    table = rising_kl.summary()
    assert table.loc[("hard labels", 0), "max"] <= 5
    trained = table.drop(index=("hard labels", 0))
    assert len(trained) == 6
    assert trained["min"].min() >= 79.5


def test_what_page_03_says_of_t_squared() -> None:
    errors, table = t_squared.errors_by_seed(), t_squared.summary()
    for temperature in (4, 16):
        # Under SGD the factor is a learning rate: the same students, at 16 and at 256 times the rate.
        assert errors["SGD", 1.0, temperature, True].equals(errors["SGD", 1.0, temperature, False])
        rates = chosen_settings(read_log("t-squared-sgd"))["learning_rate"]
        arm = t_squared.Arm("SGD", 1.0, temperature, True)
        times = rates[arm._replace(t_squared=False).name] / rates[arm.name]
        assert times.tolist() == pytest.approx([temperature**2] * 10)
        for optimizer in ("AdamW", "AdamW, clipped"):
            same = table.loc[t_squared.Arm(optimizer, 1.0, temperature, False).name]
            assert abs(same["more than with T²"]) < same["± 95%"]
        for optimizer in t_squared.OPTIMIZERS:  # with hard labels, less teacher costs nothing
            mixed = table.loc[t_squared.Arm(optimizer, 0.5, temperature, False).name]
            assert mixed["more than with T²"] < mixed["± 95%"]
    plain, clipped = (table.loc[t_squared.Arm(o, 0.5, 16, False).name] for o in ("AdamW", "AdamW, clipped"))
    assert f"{-plain['more than with T²']:.1f} ± {plain['± 95%']:.1f}" == "2.8 ± 1.7"
    assert f"{-clipped['more than with T²']:.1f} ± {clipped['± 95%']:.1f}" == "0.6 ± 1.6"
    wrong = t_squared.by_learning_rate()["SGD", 1.0, 16]
    assert wrong.loc[0.32, False] > 0.8 * 200
    assert wrong.loc[0.32, True] < 5


def test_what_the_readme_says_of_t_squared() -> None:
    row, table = readme_row("t-squared"), t_squared.summary()
    assert "exactly as many errors" in row
    costs = [table.loc[t_squared.Arm(o, 0.5, 16, False).name] for o in t_squared.OPTIMIZERS]
    said = [f"{cost['more than with T²']:+.1f} ± {cost['± 95%']:.1f}".replace("-", "−") for cost in costs]
    assert f"{said[0]} errors under SGD, {said[1]} under AdamW, {said[2]} with clipping" in row


def test_what_page_04_and_the_readme_say_of_alpha() -> None:
    table, row = alpha.summary(), readme_row("alpha")

    def cost(arm: str) -> tuple[float, float]:
        return table.loc[arm, "more than hard labels"], table.loc[arm, "± 95%"]

    for weight in ("0.3", "0.5", "0.7"):  # nothing is gained or lost that ten seeds can show
        more, half = cost(f"right, alpha {weight}")
        assert abs(more) < half
    for arm, said in (("right, alpha 1", "costs {:.1f} ± {:.1f}"), ("right, label smoothing", "saves {:.1f} ± {:.1f}")):
        more, half = cost(arm)
        assert abs(more) > half
        assert said.format(abs(more), half) in row
    assert cost("right, alpha 0.9")[0] > cost("right, alpha 0.9")[1]
    assert table["mean"].idxmin() == "right, label smoothing"
    wrong = [table.loc[f"20% wrong, {arm}", "mean"] for arm in ("alpha 0", "alpha 0.7", "label smoothing")]
    assert "brings {:.0f} errors down to {:.0f}, label smoothing to {:.0f}".format(*wrong) in row
    assert wrong[1] < wrong[0] / 2
    assert table.loc["right, alpha 1", "mean"] < wrong[0] / 2  # alpha 1 of either labels
    misled = table.loc["20% wrong, teacher's too, alpha 0.7"]
    assert round(misled["mean"]) == round(misled["teacher errors"]) == 16
    errors = alpha.errors_by_seed()
    assert (errors["20% wrong", 0.7] < errors["20% wrong", 0.0]).all()
    log = read_log("alpha")
    validation = log[log["phase"] == "result"].groupby("arm")["validation"].mean()
    assert (
        validation[[f"20% wrong, alpha {weight:g}" for weight in alpha.ALPHAS if weight < 1]].idxmax().endswith("0.7")
    )


def test_what_the_readme_says_of_the_variance_of_the_gradient() -> None:
    row, start = readme_row("gradient-variance"), own_variance(0)
    less = start.rdiv(start["hard labels"], axis=0).mean()
    assert f"{less['T = 20']:.1f} times at T = 20, {less['T = 1']:.2f} times at T = 1" in row
