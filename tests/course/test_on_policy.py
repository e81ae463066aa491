"""The experiment on what a student writes itself: its cut-off divergence, its start and its log."""

import math

import numpy as np
import pytest
import torch
from published_text import words_of_page

from distill_helpers.course.experiments import healing, language_model_arms, on_policy
from distill_helpers.course.experiments.fair_arms import at_the_edge, chosen_settings, paired_gain
from distill_helpers.course.experiments.on_policy import (
    ARMS,
    COOLED,
    LOG,
    START,
    TEMPERATURES,
    TopKWithoutBucket,
    cooled,
    judged,
    kl_by_place,
    summary,
)
from distill_helpers.course.folders import ROOT
from distill_helpers.course.logs import RESULTS, read_log
from distill_helpers.llm.completion_dataset import CompletionDataset
from distill_helpers.llm.evaluation import evaluate_language_model
from distill_helpers.llm.target_kinds import TopKTargets
from distill_helpers.llm.token_targets import target_divergence, target_divergence_and_gradient


def test_the_cut_off_divergence_is_the_sum_over_the_kept_tokens_and_its_gradient_is_autograds():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 30, generator=generator)
    student.requires_grad_()
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    ids = teacher.topk(4).indices
    kept, theirs = log_q.gather(1, ids), log_p.gather(1, ids)
    expected = (kept.exp() * (kept - theirs)).sum(1)
    weights = torch.arange(1.0, 7.0)
    (expected_gradient,) = torch.autograd.grad(expected @ weights, student)
    targets = TopKWithoutBucket.of(teacher, 4, storage_dtype=torch.float32)
    settings = {"divergence": "reverse_kl", "temperature": 1.0}
    value, gradient = target_divergence_and_gradient(student.detach(), targets, **settings)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(target_divergence(student.detach(), targets, **settings), expected.detach())
    torch.testing.assert_close(gradient * weights[:, None], expected_gradient, rtol=1e-4, atol=1e-6)


def test_without_its_bucket_the_student_moves_to_a_probability_of_one_over_e():
    teacher = torch.randn(1, 50, generator=torch.Generator().manual_seed(1)) * 2
    p = teacher.softmax(-1)
    kept = teacher.topk(8).indices

    def share_after(kind):
        student = teacher.clone()  # a perfect student
        for _ in range(5_000):
            targets = kind.of(teacher, 8, storage_dtype=torch.float32)
            _, gradient = target_divergence_and_gradient(student, targets, divergence="reverse_kl", temperature=1.0)
            student -= gradient
        return float(student.softmax(-1).gather(1, kept).sum())

    share = float(p.gather(1, kept).sum())
    assert share_after(TopKTargets) == pytest.approx(share, abs=1e-4)
    assert share_after(TopKWithoutBucket) == pytest.approx(share / math.e, abs=1e-2)


def test_the_committed_log_has_every_run_and_the_table_is_made_of_it():
    log = read_log(LOG)
    results = log[log["phase"] == "result"]
    assert results.groupby("arm")["seed"].apply(sorted).to_dict() == {arm: [0, 1, 2, 3, 4] for arm in ARMS}
    assert len(log[log["phase"] == "choice"]) == len(ARMS) * len(on_policy.LEARNING_RATES)
    assert len(log[log["phase"] == START]) == 1
    assert tuple(log[log["phase"] == COOLED]["temperature"]) == TEMPERATURES
    assert list(chosen_settings(log).columns) == ["learning_rate"]
    assert results["tokens learnt"].nunique() == 1
    table = summary()
    cooler = [f"{START}, at temperature {temperature}" for temperature in TEMPERATURES]
    assert list(table.index) == [START, *cooler, *ARMS]
    lines = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8").splitlines()
    assert [float(line.split("|")[2]) for line in lines[2:] if line.startswith("| ")] == pytest.approx(
        table["mean"].tolist(), abs=0.051
    )


def test_a_figure_by_place_has_its_mean_in_the_log():
    log = read_log(LOG)
    for _, run in log[log["phase"] != "choice"].iterrows():
        assert len(run["tales_kl_by_place"]) == len(run["written_kl_by_place"]) == 48
        assert sum(run["tales_kl_by_place"]) / 48 == pytest.approx(run["reverse_kl"], abs=0.001)
        assert sum(run["written_kl_by_place"]) / 48 == pytest.approx(run["written_kl"], rel=0.03)  # some end early


def test_a_surprise_is_a_doubt_and_a_distance():
    rows = judged()
    assert len(rows) == 5 * len(ARMS) + 1 + len(TEMPERATURES)
    assert (rows["surprise"] - rows["doubt"] - rows["distance"]).abs().max() < 1e-9
    assert (rows["distance"] - rows["written_kl"]).abs().max() < 0.15, "the words estimate the KL of distributions"


@pytest.mark.slow
def test_a_cooled_student_has_its_logits_divided_and_the_student_stays():
    student = language_model_arms.pruned_student()
    ids = torch.tensor([language_model_arms.windows("test").token_ids[0]])
    with torch.inference_mode():
        before = student.model(ids).logits
        after = cooled(student, 0.8).model(ids).logits
        assert torch.equal(student.model(ids).logits, before)
    torch.testing.assert_close(after, before / 0.8, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_mean_by_place_is_the_reverse_kl_of_the_evaluation():
    windows = language_model_arms.windows("test")
    few = CompletionDataset(windows.token_ids[:3], windows.prompt_lengths[:3], windows.tokenizer)
    by_place = kl_by_place(language_model_arms.pruned_student(), few)
    figures = evaluate_language_model(language_model_arms.pruned_student(), few, language_model_arms.teacher())
    assert sum(by_place) / 48 == pytest.approx(figures["reverse_kl"], rel=1e-3)
    assert max(kl_by_place(language_model_arms.teacher(), few)) < 1e-3


def test_what_notebook_10_and_the_readme_say_is_what_the_log_says():
    """Each passage with its figures in the order in which the page has them."""
    log, table = read_log(LOG), summary()
    tales, own, sampled, forward = ARMS
    assert (tales, own, forward) == ("reverse KL, tales", "reverse KL, own text", "forward KL, tales")
    assert sampled == "sampled tokens, own text"
    page = words_of_page("10_on_policy_distillation")
    column = {name: table[name] for name in table}
    written, kl, of_own, perplexity = (
        column[name] for name in ("mean", "KL on it", "own perplexity of it", "tales' perplexity")
    )
    began = log[log["phase"] == START].iloc[0]
    means = judged().groupby("arm")[["doubt", "distance"]].mean()
    doubt, distance = means["doubt"], means["distance"]
    of_teacher = healing.summary().loc["teacher", "teacher's perplexity of what it writes"]
    first, last = (np.mean(began["written_kl_by_place"][part]) for part in (slice(8), slice(-8, None)))
    cooler = f"{START}, at temperature 0.8"
    results = log[log["phase"] == "result"]
    by_seed = results.pivot_table(index="seed", columns="arm", values="written_kl")
    of_reverse, farther = perplexity[[tales, own, sampled]], paired_gain(by_seed, sampled, own, better="lower")
    for passage in (
        f"from {first:.2f} nats over the first eight tokens to {last:.2f} over the last eight",
        f"on average it is smaller ({kl[START]:.2f}) than on the tales ({began['reverse_kl']:.2f})",
        f"perplexity of what it writes is {of_own[START]:.0f};",
        f"beats it without a single step**: {written[cooler]:.0f}.",
        f"whose own text has {of_teacher:.0f}.",
        f"falls from {doubt[START]:.2f} to {doubt[tales]:.2f} nats, below the {np.log(of_teacher):.2f} that",
        f"for nothing: a doubt of {doubt[cooler]:.2f}, at about the same distance",
        "on the tales, its reverse KL falls from {:.2f} to {:.2f}".format(
            began["reverse_kl"], log[log["arm"] == tales]["reverse_kl"].mean()
        ),
        f"the distance falls from {distance[START]:.2f} to {distance[own]:.2f}, and",
        f"*KL on it* says {kl[START]:.2f} and {kl[own]:.2f}:",
        f"60 more steps of forward KL on the same tales leave the student where it was: {written[forward]:.0f}, and",
        f"a distance of {distance[forward]:.2f}",
        f"rises from {perplexity[START]:.0f} to {min(of_reverse):.0f}–{max(of_reverse):.0f}",
        f"a KL of {kl[sampled]:.2f} on its text, {farther['difference']:.2f} ± {farther['± 95%']:.2f} farther off",
        "at {:.0f}% of the places before training and after training on the tales, and at {:.0f}%".format(
            *column["drafts accepted %"][[START, own]]
        ),
        f"the tales win, {written[tales]:.0f} against {written[own]:.0f}, and a temperature of 0.8 beats both with"
        f" {written[cooler]:.0f}",
        f"{kl[own]:.2f} nats instead of {kl[START]:.2f}",
    ):
        assert passage in page, passage
    assert farther["won"] == "0 of 5"
    assert farther["difference"] > farther["± 95%"]
    for name in (tales, cooler, forward):
        assert distance[name] == pytest.approx(distance[START], abs=0.02), "the page: about where it was"
    assert written[f"{START}, at temperature 0.7"] < of_teacher, "the page: it seems to write better than its teacher"
    assert written[cooler] < judged().query("phase == 'result'")["written_perplexity"].min(), "beats every training"
    assert distance.drop(own).min() > distance[own], "the page: no other row is as near"
    assert doubt[own] - doubt[START] == pytest.approx(distance[START] - distance[own], abs=0.1), "by about as much"
    assert round(column["drafts accepted %"][START]) == round(column["drafts accepted %"][tales])
    assert column["won"][own] == "0 of 5"
    assert at_the_edge(log) == [tales, forward, sampled]
    assert (chosen_settings(log).loc[sampled, "learning_rate"] == min(on_policy.LEARNING_RATES)).all()
    choices = log[(log["phase"] == "choice") & (log["arm"] == forward)].sort_values("learning_rate")
    assert choices["validation"].is_monotonic_decreasing, "the page: the lowest rate for forward KL"
    assert (results.loc[results["arm"] == forward, "best_epoch"] == 30).sum() == 4, "the page: it hardly moved"
    assert (by_seed[own] < by_seed[[tales, forward]].min(axis=1)).all()
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"from 170 to {written[tales]:.0f}" in readme
    assert f"at a temperature of 0.8 it is {written[cooler]:.0f} without any training" in readme
    assert f"falls from {kl[START]:.2f} to {kl[own]:.2f} nats" in readme
    assert f"({kl[tales]:.2f} after the tales, {kl[sampled]:.2f} from one number a token)" in readme
    assert f"stays at {written[own]:.0f}" in readme
