"""Layer maps against those that the papers publish, and what can't be mapped."""

import itertools

import pytest

from distill_helpers.losses.layer_maps import LAYER_MAPS, alternating_layers, check_layer_mapping, layer_map


def teacher_layers(mapping, n_student, n_teacher):
    pairs = layer_map(mapping, n_student, n_teacher)
    assert [student for student, _ in pairs] == list(range(n_student))
    return [teacher for _, teacher in pairs]


@pytest.mark.parametrize(
    ("mapping", "n_student", "n_teacher", "published"),
    [
        ("uniform", 6, 12, [1, 3, 5, 7, 9, 11]),  # TinyBERT's g(m) = 2m, in counts from 0
        ("uniform", 4, 12, [2, 5, 8, 11]),  # TinyBERT-4: g(m) = 3m
        ("uniform", 3, 6, [1, 3, 5]),
        ("uniform", 2, 6, [2, 5]),
        ("uniform", 1, 12, [11]),
        ("uniform", 12, 12, list(range(12))),
        ("last", 6, 12, [6, 7, 8, 9, 10, 11]),
        ("last", 4, 12, [8, 9, 10, 11]),
        ("last", 3, 6, [3, 4, 5]),
        ("last", 2, 6, [4, 5]),
        ("last", 5, 12, [7, 8, 9, 10, 11]),  # needs no whole ratio
        ("alternating", 6, 12, [0, 2, 4, 7, 9, 11]),  # DistilBERT's extract_distilbert.py
        ("alternating", 4, 12, [0, 4, 7, 11]),
        ("alternating", 3, 6, [0, 2, 5]),
        ("alternating", 2, 6, [0, 5]),
        ("alternating", 1, 6, [0]),
    ],
)
def test_named_maps_are_the_published_ones(mapping, n_student, n_teacher, published):
    assert teacher_layers(mapping, n_student, n_teacher) == published


@pytest.mark.parametrize(("n_student", "n_teacher"), [(s, t) for t in range(1, 25) for s in range(1, t + 1)])
def test_maps_rise_and_stay_inside_the_teacher(n_student, n_teacher):
    for mapping in LAYER_MAPS:
        if mapping == "uniform" and n_teacher % n_student:
            continue
        layers = teacher_layers(mapping, n_student, n_teacher)
        assert all(a < b for a, b in itertools.pairwise(layers))
        assert 0 <= layers[0] <= layers[-1] < n_teacher
        if mapping != "alternating" or n_student > 1:
            assert layers[-1] == n_teacher - 1  # the last layer of the one meets the last of the other


def test_alternating_layers_are_the_nearest_to_even_steps():
    for n_teacher in range(2, 30):
        for n_student in range(2, n_teacher + 1):
            step = (n_teacher - 1) / (n_student - 1)
            for i, layer in enumerate(alternating_layers(n_student, n_teacher)):
                assert abs(layer - i * step) <= 0.5 + 1e-9


def test_pairs_are_kept_and_sorted():
    assert layer_map([(1, 5), (0, 3)], 2, 6) == ((0, 3), (1, 5))
    assert layer_map([(1, 0)], 2, 6) == ((1, 0),)  # a layer left out, a teacher's first layer
    assert layer_map([[0, 2], [1, 2]], 2, 6) == ((0, 2), (1, 2))  # as read from JSON; two may follow one
    assert layer_map([(2, 0)], 3, 1) == ((2, 0),)  # a deeper student, if one says how


@pytest.mark.parametrize(
    ("mapping", "n_student", "n_teacher", "message"),
    [
        ("uniform", 5, 12, r"whole ratio.*12 / 5 is none"),
        ("uniform", 4, 6, r"whole ratio.*6 / 4 is none"),
        ("uniform", 12, 6, "12 student layers can't be mapped to 6"),
        ("last", 12, 6, "12 student layers can't be mapped to 6"),
        ("alternating", 7, 6, "7 student layers can't be mapped to 6"),
        ("last", 0, 6, "0 student layers"),
        ("every", 3, 6, r"unknown layer mapping 'every'.*uniform.*last.*alternating"),
        ([(0, 6)], 3, 6, r"\(0, 6\) does not exist.*0 to 2.*0 to 5.*embeddings are not counted"),
        ([(3, 0)], 3, 6, r"\(3, 0\) does not exist"),
        ([(-1, 0)], 3, 6, r"\(-1, 0\) does not exist"),
        ([(0, -1)], 3, 6, r"\(0, -1\) does not exist"),
        ([(0, 1), (0, 2)], 3, 6, "stands twice"),
        ([], 3, 6, "consists of pairs"),
        ([(0, 1, 2)], 3, 6, "consists of pairs"),
    ],
)
def test_what_cannot_be_mapped_is_refused(mapping, n_student, n_teacher, message):
    with pytest.raises(ValueError, match=message):
        layer_map(mapping, n_student, n_teacher)


def test_a_mapping_can_be_checked_before_the_models_are_known():
    for fine in (*LAYER_MAPS, ((0, 11), (1, 3))):
        check_layer_mapping(fine)
    for bad in ("first", (), ((0, 1), (0, 2))):
        with pytest.raises(ValueError, match=r"layer"):
            check_layer_mapping(bad)


@pytest.mark.parametrize(("n_student", "n_teacher"), [(0, 6), (7, 6)])
def test_alternating_layers_need_as_many(n_student, n_teacher):
    with pytest.raises(ValueError, match=f"{n_student} of {n_teacher} layers can't be chosen"):
        alternating_layers(n_student, n_teacher)
