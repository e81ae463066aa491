"""Which rows several processes repeat at the end of an epoch, and which items count then."""

from types import SimpleNamespace

import pytest
import torch

from distill_helpers.training.item_counts import counted_items, repeated_rows


def accelerator(index, remainder, *, n_processes=2, at_the_end=True):
    state = SimpleNamespace(end_of_dataloader=at_the_end, remainder=remainder)
    return SimpleNamespace(gradient_state=state, num_processes=n_processes, process_index=index)


@pytest.mark.parametrize(
    ("index", "remainder", "options", "expected"),
    [
        (0, 5, {}, 0),  # 4 rows each, 5 of the 8 are new: the first process has 4 of them, the second 1
        (1, 5, {}, 3),
        (1, 2, {}, 4),
        (0, 2, {}, 2),
        (1, 8, {}, 0),
        (1, -1, {}, 0),
        (1, 5, {"at_the_end": False}, 0),
        (0, 1, {"n_processes": 1}, 0),
    ],
)
def test_the_last_rows_of_the_last_batch_are_repetitions(index, remainder, options, expected):
    assert repeated_rows(accelerator(index, remainder, **options), 4) == expected


@pytest.mark.parametrize(
    ("labels", "task", "given", "expected"),
    [
        ([0, -100, 1], "single_label", None, [True, True, False]),  # a message without a label learns from the teacher
        ([[0, 1], [-100, 1], [1, 1]], "multi_label", None, [True, True, False]),
        ([[1, -100], [0, 1], [0, 0]], "token_classification", None, [[True, False], [True, True], [False, False]]),
        ([[1, -100], [0, 1], [0, 0]], "token_classification", [[1, 1], [0, 1], [1, 1]], [[1, 1], [0, 1], [0, 0]]),
    ],
)
def test_repeated_rows_do_not_count(labels, task, given, expected):
    given = None if given is None else torch.tensor(given)
    counts = counted_items(torch.tensor(labels), 1, given, task)
    assert counts.tolist() == expected
    assert given is None or given[-1].tolist() == [1, 1]
    assert counted_items(torch.tensor(labels), 0, given, task) is given
