"""The runner of the experiments, and what the experiments on the digits share."""

import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import torch

from distill_helpers import DistillationConfig, DistillationLoss
from distill_helpers.course.experiments import alpha, t_squared
from distill_helpers.course.experiments.__main__ import experiments, in_order, main
from distill_helpers.course.experiments.digit_arms import Curve, together, trained_side_by_side
from distill_helpers.course.experiments.digits import (
    error_count,
    make_mlp,
    predict,
    side_by_side,
    train_mlp,
)
from distill_helpers.course.logs import RESULTS
from distill_helpers.data.corpora import ImageSplits, load_digits

EXPERIMENTS = Path(alpha.__file__).parent


def test_every_log_is_made_by_an_experiment_that_make_results_finds() -> None:
    found = experiments()
    assert "digits" not in found, "a module without a log is no experiment"
    modules = [import_module(f"distill_helpers.course.experiments.{name}") for name in found]
    logs = [log for module in modules for log in getattr(module, "LOGS", (module.LOG,))]
    others = {"help-desk", "written-messages"}  # made by `course.results`, and the texts of `landmarks`
    assert sorted(logs) == sorted({path.stem for path in RESULTS.glob("*.jsonl")} - others)


def test_an_experiment_comes_after_the_ones_that_it_needs() -> None:
    needs = experiments()
    order = in_order(needs, needs)
    assert sorted(order) == sorted(needs)
    assert order.index("queue_teacher") < order.index("weak_teacher")
    for name, path in ((name, EXPERIMENTS / f"{name}.py") for name in needs):
        imported = re.findall(r"(?m)^from distill_helpers\.course\.experiments\.(\w+) import", path.read_text())
        assert set(imported) & set(needs) == set(needs[name]), f"{name} needs other experiments than it says"
    assert in_order(["weak_teacher", "alpha", "queue_teacher"], needs) == ["alpha", "queue_teacher", "weak_teacher"]
    assert in_order(["weak_teacher"], needs) == ["weak_teacher"]
    with pytest.raises(ValueError, match=r"no experiment digits, magic; there are alpha, api_doors, .*withheld_digit"):
        in_order(["magic", "alpha", "digits"], needs)


def test_the_runner_runs_what_it_was_told_and_stops_at_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        ran.append(command[-1].rpartition(".")[2])
        return subprocess.CompletedProcess(command, 3 if ran[-1] == "capacity" else 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["experiments", "t_squared", "alpha"])
    main()
    assert ran == ["alpha", "t_squared"]
    monkeypatch.setattr("sys.argv", ["experiments"])
    order = in_order(experiments(), experiments())
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 3
    assert ran[2:][-1] == "capacity"
    assert ran[2:] == order[: order.index("capacity") + 1]


def test_the_loss_without_t_squared_is_another_alpha_and_another_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    z, v = torch.randn(2, 8, 10, generator=generator)
    labels = torch.arange(8)
    config, scale = t_squared.without_t_squared(temperature=4.0, alpha=0.7)
    terms = DistillationLoss(DistillationConfig(temperature=4.0, alpha=0.7))(z, v, labels)
    expected = 0.7 * terms["soft_target_loss"] / 16 + 0.3 * terms["task_loss"]
    torch.testing.assert_close(scale * DistillationLoss(config)(z, v, labels)["total_loss"], expected)


def test_the_bench_uses_one_thread_and_gives_the_callers_back() -> None:
    counts = []

    class Counting(torch.nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            counts.append(torch.get_num_threads())
            if images.shape[-2] == 1:
                raise RuntimeError("stopped")
            return super().forward(images)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        model, images = Counting(64, 10), torch.rand(4, 64)
        train_mlp(model, images, torch.arange(4), epochs=1)
        predict(model, images)
        assert torch.get_num_threads() == 3
        for broken in (lambda: train_mlp(model, images[:1], torch.arange(1)), lambda: predict(model, images[:1])):
            with pytest.raises(RuntimeError, match="stopped"):
                broken()
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert counts == [1, 1, 1, 1]


def test_training_is_the_seeds_and_moves_the_weights() -> None:
    images, labels = torch.rand(40, 64, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 10

    def trained(seed: int, **options: object) -> torch.Tensor:
        model = train_mlp(make_mlp((8,), seed=0), images, labels, epochs=2, seed=seed, **options)
        return predict(model, images)

    assert torch.equal(trained(0), trained(0))
    for other in (trained(1), trained(0, optimizer="SGD"), trained(0, jitter=True), trained(0, learning_rate=1e-4)):
        assert not torch.equal(trained(0), other)


def test_the_share_of_wrong_labels_is_exact() -> None:
    labels = torch.arange(100) % 10
    assert int((alpha.corrupt(labels, 0.2, seed=0) != labels).sum()) == 20
    with pytest.raises(ValueError, match=r"got 1\.5"):
        alpha.corrupt(labels, 1.5, seed=0)


def test_networks_side_by_side_learn_what_each_learns_alone() -> None:
    seeds, images = (0, 1, 2), torch.rand(3, 40, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(120).view(3, 40) % 10
    networks = [make_mlp((8,), seed=seed) for seed in seeds]
    model = side_by_side(networks)
    torch.testing.assert_close(
        predict(model, images), torch.stack([predict(m, i) for m, i in zip(networks, images, strict=True)])
    )
    train_mlp(model, images, labels, epochs=2, batch_size=40, max_grad_norm=0.05, seed=seeds)
    for network, i, of_it in zip(networks, images, labels, strict=True):
        train_mlp(network, i, of_it, epochs=2, batch_size=40, max_grad_norm=0.05)  # one batch: no order
    torch.testing.assert_close(
        predict(model, images), torch.stack([predict(m, i) for m, i in zip(networks, images, strict=True)])
    )


def test_a_student_of_the_digits_is_measured_at_its_best_epoch_and_reads_no_test_image_before() -> None:
    seeds, config = (0, 1), DistillationConfig(alpha=0.0)
    splits = [load_digits(seed=seed) for seed in seeds]
    images, labels = (together(splits, f"train_{part}") for part in ("images", "labels"))
    measured = []

    def measure(logits: torch.Tensor, split: ImageSplits) -> dict[str, float]:
        measured.append(split)
        return {"errors": error_count(logits, split.test_labels)}

    trained = trained_side_by_side(
        seeds, (16,), images, labels, None, config, measure=measure, epochs=6, learning_rate=3e-3, n_figures=3
    )
    assert not measured
    assert [len(trained[seed].validation) for seed in seeds] == [3, 3]
    assert trained[1].budget["steps"] == 6 * 35
    assert trained[1].measure_test()["errors"] < 250
    assert len(measured) == 1
    assert torch.equal(measured[0].test_labels, splits[1].test_labels)


def test_each_network_gets_the_weights_of_its_own_best_epoch_back() -> None:
    images, labels = torch.rand(2, 5, 64), torch.zeros(2, 5, dtype=torch.long)
    model = side_by_side([make_mlp((), seed=0), make_mlp((), seed=1)])
    curve = Curve(model, images, labels, every=1)
    bias = model[0].bias
    with torch.no_grad():
        for epoch, (first, second) in enumerate([(3.0, 1.0), (1.0, 5.0), (2.0, 4.0)], start=1):
            bias[:, 0, 0] = torch.tensor([first, second])
            curve(epoch)
    curve.restore()
    assert bias[:, 0, 0].tolist() == [3.0, 5.0]
    assert torch.stack(curve.figures).argmax(dim=0).tolist() == [0, 1]
