"""The rule that picks the cells for the browser."""

import pytest
from reduced import needed, reads_and_binds


@pytest.mark.parametrize(
    ("source", "reads", "binds"),
    [
        ("x = y", {"y"}, {"x"}),
        ("x = x + 1", {"x"}, {"x"}),
        ("for x in y:\n    x", {"y"}, {"x"}),
        ("z = [x for x in y]", {"y"}, {"z"}),
        ("def f(x):\n    w = x\n    return w + y + f(x)", {"y"}, {"f"}),
        ("import a.b as c\nx = lambda: c.d(y)", {"y"}, {"c", "x"}),
    ],
)
def test_what_a_cell_reads_and_binds(source: str, reads: set[str], binds: set[str]) -> None:
    assert reads_and_binds(source) == (reads, binds)


def test_the_last_cell_that_binds_a_name_is_kept_and_what_it_reads() -> None:
    sources = ["import a", "x = a", "y = 1", "x = a + 1", "unused = x", "live = x", "x = 2"]
    assert needed(sources, 5) == [0, 3, 5]
    assert needed(sources, 4) == [0, 3, 4]
