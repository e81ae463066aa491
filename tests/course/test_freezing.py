"""Frozen parts of a student: they stay as they are for as long as was asked, and the table is made of the log."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from published_text import cells_of_table, words_of_page
from transformers import PreTrainedModel, TrainerCallback

from distill_helpers.course.experiments import freezing
from distill_helpers.course.experiments.freezing import ARMS, LOG, PARTS, WHOLE, Frozen, summary
from distill_helpers.course.experiments.landmark_ablations import AT_THE_OTHER, accuracies
from distill_helpers.course.folders import NOTEBOOKS, ROOT
from distill_helpers.course.logs import read_log
from distill_helpers.course.tasks import get_task
from distill_helpers.landmarks.stages import Training


class Watching(TrainerCallback):
    """Notes after each step whether the parts of a student are those of the start."""

    def __init__(self) -> None:
        self.begun: list[torch.Tensor] = []
        self.same: list[list[bool]] = []

    def _parts(self, model: PreTrainedModel) -> list[torch.Tensor]:
        bert = model.base_model
        parts = bert.embeddings, bert.encoder.layer, model.classifier
        return [torch.cat([p.detach().flatten() for p in part.parameters()]) for part in parts]

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.begun = self._parts(kwargs["model"])

    def on_step_end(self, args, state, control, **kwargs) -> None:
        now = self._parts(kwargs["model"])
        self.same.append([torch.equal(part, before) for part, before in zip(now, self.begun, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_keeps_its_parts_as_they_are_for_so_many_of_eight_steps(arm: str, tmp_path: Path) -> None:
    embeddings = 8 if arm.endswith("all steps") else 4
    layers = embeddings if "layers" in arm else 0
    task, watching = get_task("help-desk"), Watching()
    data = task.data
    few = dataclasses.replace(data, train=data.train.subset(range(16)), validation=data.validation.subset(range(8)))
    training = Training(
        epochs=2,
        batch_size=4,
        n_transfer=0,
        max_length=32,
        callbacks=[watching],
        device="cpu",
        output_dir=tmp_path / "student",
        progress=False,
    )
    student = ARMS[arm].train(task.teacher_model, few, training).classifier.model
    # At the first step the rate is 0, and nothing moves yet.
    frozen = [[step <= max(n, 1) for n in (embeddings, layers, 0)] for step in range(1, 9)]
    assert watching.same == frozen
    assert all(p.requires_grad for p in student.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the student has not learned")
def test_a_step_of_a_frozen_student_is_quicker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logged: dict[str, Any] = {}
    monkeypatch.setattr(freezing, "append_run", lambda log, line: logged.update(line))
    monkeypatch.setattr(freezing, "run_folder", lambda *names: tmp_path / "timing")
    freezing.time_steps(rounds=1)
    assert list(logged) == ["phase", WHOLE, *PARTS]
    assert logged["embeddings and layers"] < 0.8 * logged[WHOLE]


def test_half_of_the_steps_save_half_of_the_time() -> None:
    table, timing = summary(), read_log(LOG).query("phase == 'timing'").iloc[-1]
    for parts in PARTS:
        saved = 100 * (1 - timing[parts] / timing[WHOLE])
        assert table.loc[f"{parts}, all steps", "time %"] == pytest.approx(100 - saved)
        assert table.loc[f"{parts}, half of the steps", "time %"] == pytest.approx(100 - saved / 2)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        Frozen(lambda model: [], share)


def test_an_arm_is_compared_with_the_whole_recipe_at_its_rate_seed_by_seed() -> None:
    results = read_log(LOG).query("phase == 'result'")
    whole = accuracies()
    cells = {row[0]: row for row in cells_of_table(LOG)}
    assert list(cells) == [WHOLE, *ARMS] == list(summary().index)
    for arm in ARMS:
        runs = results[results["arm"] == arm].set_index("seed")
        beside = {5e-4: WHOLE, 1.2e-3: AT_THE_OTHER}[runs["learning_rate"].iloc[0]]
        gain = 100 * runs["accuracy"] - whole[beside]
        assert len(gain.dropna()) == 5
        assert float(cells[arm][4]) == pytest.approx(gain.mean(), abs=0.051)
        assert cells[arm][3] == beside
        assert cells[arm][6] == f"{(gain > 0).sum()} of 5"


def test_page_errata_and_readme_say_what_the_log_says() -> None:
    table = summary()
    line = {name: f"{abs(row['difference']):.1f} ± {row['± 95%']:.1f}" for name, row in table.iterrows()}
    half, whole = (f"embeddings and layers, {long}" for long in ("half of the steps", "all steps"))
    page = words_of_page("07_landmark_systems")
    for passage in (
        f"frozen for all of the steps cost {line[whole]} points",
        f"the difference is +{line[half]}",
        f"Embeddings frozen for all of the steps cost {line['embeddings, all steps']} points**, for half of the steps"
        f" {line['embeddings, half of the steps']}",
    ):
        assert passage in page
    for text in (NOTEBOOKS / "errata.md", ROOT / "README.md"):
        for name in (whole, half, "embeddings, all steps"):
            assert line[name] in text.read_text(encoding="utf-8")
    certain = table["difference"].abs() > table["± 95%"]
    assert certain.drop(WHOLE).to_dict() == {name: name in (whole, "embeddings, all steps") for name in ARMS}
    assert table.loc[half, "difference"] > 0 > table.loc["embeddings, half of the steps", "difference"]
