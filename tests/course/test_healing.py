"""The healing of a cut language model: its windows, its log, and what a short training does."""

import numpy as np
import pytest
import torch
from published_text import cells_of_table, words_of_page

from distill_helpers import load_grimm_tales
from distill_helpers.course.experiments import healing, language_model_arms
from distill_helpers.course.experiments.fair_arms import chosen_settings
from distill_helpers.course.experiments.healing import (
    ARMS,
    LEARNING_RATES,
    LOG,
    PRUNED,
    TEACHER,
    summary,
)
from distill_helpers.course.experiments.language_model_arms import (
    FORWARD_KL,
    REVERSE_KL,
    KeepBest,
    healed,
    pruned_student,
    teacher,
    windows,
    write,
)
from distill_helpers.course.folders import ROOT
from distill_helpers.course.logs import read_log
from distill_helpers.llm.completion_dataset import CompletionDataset
from distill_helpers.llm.evaluation import evaluate_language_model


@pytest.fixture(scope="module")
def log():
    return read_log(LOG)


@pytest.mark.slow
def test_windows_are_64_tokens_of_which_16_are_read_only():
    train, test = windows("train"), windows("test")
    assert {len(ids) for ids in train.token_ids + test.token_ids} == {64}
    assert set(train.n_tokens) == {48}
    assert len(train) == 1199
    text = " ".join(" ".join(load_grimm_tales().test).split())
    for ids in test.token_ids[:5]:  # tales that are not among the training ones
        passage = " ".join(test.tokenizer.decode(ids[4:40]).split())
        assert passage in text
        assert passage not in " ".join(" ".join(load_grimm_tales().train).split())


def test_the_log_is_whole(log):
    results, choices = (log[log["phase"] == phase] for phase in ("result", "choice"))
    assert results.groupby("arm")["seed"].apply(sorted).to_dict() == {arm: [0, 1, 2, 3, 4] for arm in ARMS}
    assert choices.groupby("arm")["learning_rate"].apply(sorted).to_dict() == {arm: [*LEARNING_RATES] for arm in ARMS}
    assert list(log[~log["phase"].isin(["choice", "result"])]["phase"]) == [TEACHER, PRUNED]
    assert results["writes"].str.len().gt(20).all()
    assert results["tokens learnt"].nunique() == results["steps"].nunique() == 1
    assert list(chosen_settings(log).columns) == ["learning_rate"]


def test_the_table_is_made_of_the_log(log):
    table = summary()
    cells = {row[0]: row for row in cells_of_table(LOG)}
    assert list(cells) == [TEACHER, PRUNED, *ARMS] == list(table.index)
    results = log[log["phase"] == "result"]
    for arm in ARMS:
        own = results[results["arm"] == arm]
        assert table.loc[arm, "perplexity"] == pytest.approx(own["perplexity"].mean())
        assert float(cells[arm][1]) == pytest.approx(own["perplexity"].mean(), abs=0.051)
        assert float(cells[arm][8]) == pytest.approx(own["written_perplexity"].mean(), abs=0.051)
    assert table.loc[TEACHER, "same next token %"] == 100


def test_notebook_10_and_the_readme_say_what_the_log_says(log):
    table, results = summary(), log[log["phase"] == "result"]
    perplexity, kl, written = (
        table[name] for name in ("perplexity", "KL to the teacher", "teacher's perplexity of what it writes")
    )
    hard, forward, reverse = ARMS
    gain = f"a difference of {table.loc[hard, 'difference']:.1f} ± {table.loc[hard, '± 95%']:.1f}"
    nats = f"{kl[hard]:.1f} nats instead of {kl[forward]:.1f}"
    page = words_of_page("10_on_policy_distillation")
    for passage in (
        f"perplexities of {perplexity[hard]:.0f} and {perplexity[forward]:.0f}, {gain}",
        f"The teacher has {perplexity[TEACHER]:.0f}.",
        f"a KL of {nats}",
        f"a perplexity of {written[reverse]:.0f}, against {written[hard]:.0f} for hard labels and"
        f" {written[forward]:.0f} for forward KL",
        f"these students are worst, with {perplexity[reverse]:.0f}",
    ):
        assert passage in page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"to {perplexity[hard]:.0f} with hard labels and to {perplexity[forward]:.0f} with" in readme
    assert gain in readme
    assert f"{kl[forward]:.1f} nats from the teacher instead of {kl[hard]:.1f}" in readme
    assert abs(table.loc[hard, "difference"]) < table.loc[hard, "± 95%"]
    by_seed = results.pivot_table(index="seed", columns="arm", values=["forward_kl", "written_perplexity"])
    assert (by_seed["forward_kl"][forward] < by_seed["forward_kl"][[hard, reverse]].min(axis=1)).all()
    assert (by_seed["written_perplexity"][reverse] < by_seed["written_perplexity"][[hard, forward]].min(axis=1)).all()


@pytest.mark.slow
def test_what_a_model_writes_is_its_own_and_begins_with_the_openings():
    written = write(pruned_student(), 3)
    for ids, opening in zip(written.token_ids, windows("test").token_ids, strict=False):
        assert ids[:16] == opening[:16]
        assert len(ids) <= 64
    again = write(pruned_student(), 3)
    assert written.token_ids == again.token_ids


@pytest.fixture
def small_batches(monkeypatch):
    """Two passages a step instead of eight."""
    monkeypatch.setattr(language_model_arms, "BATCH_SIZE", 2)


@pytest.mark.slow
@pytest.mark.parametrize("method", [FORWARD_KL, REVERSE_KL._replace(on_policy=0.5)], ids=["tales", "half on-policy"])
def test_ten_steps_heal_a_little_and_leave_teacher_and_cut_student_as_they_were(method, small_batches):
    before = {k: v.clone() for k, v in pruned_student().model.state_dict().items()}
    student = healed(method, 0, steps=10, learning_rate=1e-3, cached=False).student
    test = windows("test")
    few = CompletionDataset(test.token_ids[:4], test.prompt_lengths[:4], test.tokenizer)
    kl, of_cut = (evaluate_language_model(model, few, teacher())["forward_kl"] for model in (student, pruned_student()))
    assert kl < of_cut
    for key, tensor in pruned_student().model.state_dict().items():
        assert torch.equal(tensor, before[key])


@pytest.mark.slow
def test_the_best_weights_are_kept_and_validation_tales_are_what_is_watched(monkeypatch, small_batches):
    seen, figures = [], iter([3.0, 1.0, 2.0])

    def judge(student):
        seen.append({key: tensor.clone() for key, tensor in student.model.state_dict().items()})
        return next(figures)

    watched = KeepBest(4, judge)
    student = healed(FORWARD_KL, 0, steps=12, learning_rate=1e-3, cached=False, callbacks=[watched]).student
    assert watched.curve == [-3.0, -1.0, -2.0]
    assert not all(torch.equal(tensor, seen[1][key]) for key, tensor in student.model.state_dict().items())
    watched.take_best(student)
    assert all(torch.equal(tensor, seen[1][key]) for key, tensor in student.model.state_dict().items())

    validation = windows("validation")
    few = CompletionDataset(validation.token_ids[:4], validation.prompt_lengths[:4], validation.tokenizer)
    monkeypatch.setattr(language_model_arms, "windows", lambda part: {"validation": few}[part])
    expected = evaluate_language_model(student, few)["perplexity"]
    assert language_model_arms.surprise(student) == pytest.approx(np.log(expected))


@pytest.fixture
def told(monkeypatch):
    """What `healed` is told; it trains nothing and returns the cut student."""
    calls = []

    def train(method, seed, **settings):
        calls.append((method, seed, settings))
        return pruned_student(), 7.0

    monkeypatch.setattr(healing, "healed", train)
    monkeypatch.setattr(KeepBest, "take_best", lambda self, student: calls.append("best"))
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_a_run_is_watched_by_the_validation_tales_and_measured_with_its_best_weights(monkeypatch, told, arm):
    monkeypatch.setattr(healing, "judge", lambda student: {"perplexity": 1.0})
    trained = healing.train_student(arm, 5e-4, 3)
    ((method, seed, settings),) = told
    assert (method, seed) == (ARMS[arm], 3)
    assert (settings["learning_rate"], settings["steps"]) == (5e-4, 150)
    (watched,) = settings["callbacks"]
    assert watched._judge is language_model_arms.surprise
    assert trained.measure_test() == {"perplexity": 1.0, "early_loss": 7.0}
    assert told[1:] == ["best"]
    assert trained.budget == {"steps": 150, "tokens learnt": 150 * 8 * 48}
