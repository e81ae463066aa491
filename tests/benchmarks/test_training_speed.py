"""The bars of `training_speed.py`, on a part of the messages."""

import pytest
from training_speed import measure


@pytest.mark.slow
def test_an_epoch_is_ten_times_faster_than_the_article_s_and_close_to_the_bare_loop() -> None:
    result = measure(n_messages=640, rounds=3)
    assert result["article / package"] >= 10
    assert result["package / bare loop"] <= 1.3
