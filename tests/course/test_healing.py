"""The healing experiment: its windows, its log, and what a short run of it does."""

import numpy as np
import pytest
import torch

from distill_helpers import load_grimm_tales
from distill_helpers.course.experiments import healing
from distill_helpers.course.experiments.healing import LOG, METHODS, PRUNED, TEACHER, summary
from distill_helpers.course.logs import read_log


@pytest.fixture(scope="module")
def log():
    return read_log(LOG)


@pytest.mark.slow
def test_windows_are_64_tokens_of_which_16_are_read_only():
    train, test = healing.windows("train"), healing.windows("test")
    assert {len(ids) for ids in train.token_ids + test.token_ids} == {64}
    assert set(train.n_tokens) == {48}
    assert len(train) == 1199
    text = " ".join(" ".join(load_grimm_tales().test).split())
    for ids in test.token_ids[:5]:  # tales that are not among the training ones
        passage = " ".join(test.tokenizer.decode(ids[4:40]).split())
        assert passage in text
        assert passage not in " ".join(" ".join(load_grimm_tales().train).split())


def test_the_log_has_runs_of_every_method_and_none_twice(log):
    assert set(log["method"]) == {TEACHER, PRUNED, *METHODS}
    assert not log.duplicated(["method", "seed"]).any()
    assert log["writes_0"].str.len().gt(20).all()


def test_the_log_is_whole(log):
    assert log[log["method"].isin(METHODS)].groupby("method")["seed"].apply(sorted).to_dict() == {
        name: [0, 1, 2, 3, 4] for name in METHODS
    }


def test_forward_kl_halves_the_perplexity_under_the_teacher_in_every_seed(log):
    kl = log.pivot_table(index="seed", columns="method", values="forward_kl")
    assert (np.exp(kl["forward KL"] - kl["hard labels"]) < 0.5).all()


def test_the_reading_of_notebook_10_says_what_the_log_says():
    table = summary()
    perplexity, kl = table["perplexity"], table["KL to the teacher"]
    times, written = table["e^KL: times the teacher's perplexity"], table["teacher's perplexity of what it writes"]
    assert [round(perplexity[name]) for name in ("hard labels", "forward KL", TEACHER)] == [63, 63, 32]
    assert perplexity["reverse KL"] == pytest.approx(92, abs=0.5)
    assert [f"{kl[name]:.1f}" for name in ("hard labels", "forward KL")] == ["1.8", "1.0"]
    assert [f"{times[name]:.1f}" for name in ("hard labels", "forward KL")] == ["5.8", "2.7"]
    assert [round(table.loc[name, "same next token %"]) for name in ("hard labels", "forward KL")] == [33, 44]
    assert [round(written[name]) for name in ("reverse KL", "JSD")] == [117, 116]
    reverse = table.loc[list(METHODS), "reverse KL"].sort_values()
    assert list(reverse.index) == ["JSD", "reverse KL", "half on-policy, reverse KL", "forward KL", "hard labels"]
    assert [f"{reverse[name]:.2f}" for name in ("JSD", "forward KL", "hard labels")] == ["1.14", "1.21", "1.84"]
    assert all(180 < written[name] < 220 for name in ("hard labels", "forward KL"))
    difference = written["forward KL"] - written["hard labels"]
    assert abs(difference) < table.loc["forward KL", "± sd of that"]
    own = "half on-policy, reverse KL"
    assert [f"{kl[name]:.2f}" for name in (own, "reverse KL")] == ["1.31", "1.37"]
    assert [round(written[name]) for name in (own, "reverse KL")] == [168, 117]
    assert table.loc[list(METHODS), "KL to the teacher"].drop("hard labels").max() < kl["hard labels"]


def test_the_table_is_of_the_log(log):
    table = summary()
    assert list(table.index) == [TEACHER, PRUNED, *METHODS]
    for name in METHODS:
        own = log[log["method"] == name]
        assert table.loc[name, "perplexity"] == pytest.approx(own["perplexity"].mean())
        assert table.loc[name, "seeds"] == len(own)
    assert table.loc[TEACHER, "same next token %"] == 100


@pytest.mark.slow
def test_what_a_model_writes_is_its_own_and_begins_with_the_openings():
    written = healing.write(healing.pruned_student(), 3)
    for ids, opening in zip(written.token_ids, healing.windows("test").token_ids, strict=False):
        assert ids[:16] == opening[:16]
        assert len(ids) <= 64
    again = healing.write(healing.pruned_student(), 3)
    assert written.token_ids == again.token_ids


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forward KL", "half on-policy, reverse KL"])
def test_ten_steps_heal_a_little_and_leave_teacher_and_cut_student_as_they_were(name):
    before = {k: v.clone() for k, v in healing.pruned_student().model.state_dict().items()}
    healing_steps = healing.healed(METHODS[name], 0, steps=10, cached=False)
    few = healing.windows("test")
    few = type(few)(few.token_ids[:4], few.prompt_lengths[:4], few.tokenizer)
    healed_kl = healing.evaluate_language_model(healing_steps.student, few, healing.teacher())["forward_kl"]
    assert healed_kl < healing.evaluate_language_model(healing.pruned_student(), few, healing.teacher())["forward_kl"]
    for key, tensor in healing.pruned_student().model.state_dict().items():
        assert torch.equal(tensor, before[key])
