"""Temperature and alpha on the help desk: what each arm is trained with, and what the pages say of the log."""

import itertools
import re

import pytest
from published_text import readme_row, words_of_page

from distill_helpers.course.experiments import temperature_and_alpha
from distill_helpers.course.experiments.fair_arms import Trained, paired_gain
from distill_helpers.course.experiments.temperature_and_alpha import ARMS, GRID, LOG, REFERENCE, summary
from distill_helpers.course.logs import RESULTS, read_log


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_is_trained_with_its_temperature_and_alpha(arm, monkeypatch) -> None:
    asked = {}

    def train_for_steps(task, name, variant, learning_rate, max_steps, seed, *, config):
        asked.update(
            task=task.name,
            name=name,
            labels=variant.labels,
            rate=learning_rate,
            steps=max_steps,
            seed=seed,
            config=config,
        )
        return Trained([0.5], dict, {})

    monkeypatch.setattr(temperature_and_alpha, "train_for_steps", train_for_steps)
    temperature_and_alpha.train_student(arm, 1e-3, seed=7)
    config = asked.pop("config")
    labels = "hard" if arm == REFERENCE else "soft"
    assert asked == {
        "task": "help-desk",
        "name": f"{LOG} {arm}",
        "labels": labels,
        "rate": 1e-3,
        "steps": 720,
        "seed": 7,
    }
    assert config.alpha == (0.0 if arm == REFERENCE else float(arm.split("alpha = ")[1]))
    assert config.temperature == (1.0 if arm == REFERENCE else float(re.search(r"T = (\d)", arm)[1]))


def test_the_log_is_whole_and_the_table_is_made_of_it() -> None:
    log = read_log(LOG)
    assert set(log["arm"]) == set(ARMS)
    assert (log[log["phase"] == "choice"].groupby("arm").size() == len(GRID["learning_rate"])).all()
    seeds = log[log["phase"] == "result"].groupby("arm")["seed"].apply(sorted)
    assert seeds.to_dict() == {arm: [0, 1, 2, 3, 4] for arm in ARMS}
    lines = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8").split("\n\n")[0].splitlines()[2:]
    assert [float(line.split("|")[2]) for line in lines] == pytest.approx(summary()["mean"].tolist(), abs=0.051)


def test_what_page_02_and_the_readme_say_is_what_the_log_says() -> None:
    table, log = summary(), read_log(LOG)
    by_seed = 100 * log[log["phase"] == "result"].pivot_table(index="seed", columns="arm", values="accuracy")
    soft = list(ARMS)[1:]
    gap = paired_gain(by_seed, "T = 4, alpha = 1", "T = 8, alpha = 1")
    apart = f"{gap['difference']:.1f} ± {gap['± 95%']:.1f} points above"
    page = words_of_page("02_temperature")
    gain, nll = table["difference"], table["NLL"]
    for passage in (
        f"the teacher's labels bring {gain[soft].min():.1f} to {gain[soft].max():.1f} points on average,"
        " and win in every seed",
        f"only {apart} T = 8, the worst",
        f"is {nll[soft[0]]:.2f} and {nll[soft[2]]:.2f} at T = 1 and 4, and {nll[soft[1]]:.2f} and {nll[soft[3]]:.2f} at"
        " T = 2 and 8: the second pair also chose a learning rate three times as high",
    ):
        assert passage in page, passage
    rates = table["learning rate"][soft].astype(float).tolist()
    assert rates[1] == rates[3] == pytest.approx(3 * rates[0]) == pytest.approx(3 * rates[2])
    assert set(table["won"][soft]) == {"5 of 5"}
    assert (table["mean"][soft].idxmax(), table["mean"][soft].idxmin()) == ("T = 4, alpha = 1", "T = 8, alpha = 1")
    for one, other in itertools.combinations(soft, 2):
        pair = paired_gain(by_seed, one, other)
        assert abs(pair["difference"]) < pair["± 95%"], "the page: no T differs from another beyond chance"
    line = readme_row(LOG)
    shown = ", ".join(f"{value:.1f}" for value in table["mean"][soft[:3]]) + f" and {table['mean'][soft[3]]:.1f}%"
    assert shown in line
    assert f"true queues alone {table.loc[REFERENCE, 'mean']:.1f}%; four is {apart} eight" in line
