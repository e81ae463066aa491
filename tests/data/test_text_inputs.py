"""What a classifier reads: texts and pairs of texts, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from distill_helpers.data.text_inputs import check_inputs, text_parts


def test_texts_and_pairs_are_inputs():
    check_inputs(["no sound", ("no sound", "check the mixer")])
    check_inputs(("no sound", "grey screen"))  # two texts, not a pair
    assert text_parts(["a", ("b", "c")]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"got one DataFrame.* pairs by `list\(zip\(first, second\)\)`"),
        (np.array([["a", "b"]]), "got one ndarray"),
        ({"a": "b"}, "got one dict"),
        ([], "pass a non-empty list of texts, or of pairs of texts"),
        ("no sound", "pass a non-empty list"),
        (["a", ""], "row 1: the text is empty; drop the row or fix it"),
        ([("a", "b"), ("a", " ")], "row 1: in the second text of the pair, the text is empty"),
        ([(None, "b")], "row 0: in the first text of the pair, the text is empty, not a string"),
        ([("a", 3)], r"row 0: in the second text of the pair, the text is 3 \(int\), not a string"),
        ([("a", "\ud800")], "row 0: in the second text of the pair, .* surrogate"),
        ([["a", "b"]], "row 0: a list of 2 is neither a text nor a pair; a pair is a tuple of two texts"),
        ([("a", "b", "c")], "row 0: a tuple of 3 is neither a text nor a pair"),
        ([("a",)], "row 0: a tuple of 1 is neither"),
    ],
)
def test_anything_else_is_refused_with_its_row(inputs, message):
    with pytest.raises(ValueError, match=message):
        check_inputs(inputs)
