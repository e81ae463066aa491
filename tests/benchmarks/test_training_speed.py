"""The bars of `training_speed.py`. The whole comparison takes five minutes and is run by hand."""

import pytest
from training_speed import measure


@pytest.mark.alone
@pytest.mark.slow
def test_an_epoch_takes_at_most_1_3_times_the_bare_loop() -> None:
    seconds = measure(names=("package", "bare loop"))  # a whole epoch: on part of one, the Trainer's start would count
    assert seconds["package"] / seconds["bare loop"] <= 1.3


@pytest.mark.alone
@pytest.mark.slow
def test_an_epoch_is_ten_times_faster_than_the_article_s() -> None:
    seconds = measure(n_messages=640, rounds=1, names=("package", "article"))
    assert seconds["article"] / seconds["package"] >= 10
