"""Probabilities of labels from tokens and samples: what counts for which label, and what is reported as lost."""

import numpy as np
import pytest
from api_records import answered, failed, place

from distill_helpers.api.labels.label_bias import batch_calibrated, matched_to_prior
from distill_helpers.api.labels.label_probabilities import (
    probabilities_from_logprobs,
    probabilities_from_samples,
    samples_of_inputs,
)

QUEUES = ("graphics", "Windows", "PC hardware", "Mac hardware", "X")
SECRET = "my password is hunter2"


def of_one(text, *places, names=QUEUES, answers="ABCDE", **settings):
    return probabilities_from_logprobs([answered("q", text, *places)], names, answers=answers, **settings)


def test_letters_one_position():
    result = of_one("B", place((" B", 0.6), ("A", 0.2), ("B", 0.1), ("The", 0.05), ("\n", 0.01)))
    # 0.9 on A and B; C, D, E are unlisted: at most 0.01 each, at most 0.04 together.
    unseen = 0.5 * 0.01
    total = 0.9 + 3 * (unseen + 0.5 * 0.01 / 3)  # what follows a line break may be one of them as well
    assert result.inputs == ("q",)
    np.testing.assert_allclose(result.probabilities[0, :2], [0.2 / total, 0.7 / total])
    np.testing.assert_allclose(result.probabilities[0, 2:], (unseen + 0.5 * 0.01 / 3) / total)
    np.testing.assert_allclose(result.off_label_mass, [0.1])
    np.testing.assert_allclose(result.ambiguous_mass, [0.01])  # the line break


def test_unseen_labels_get_a_share_of_their_bound():
    tokens = place(("A", 0.7), ("B", 0.2), ("yes", 0.04))
    assert of_one("A", tokens, unseen_share=0).probabilities[0, 2:].tolist() == [0, 0, 0]
    bound = 0.06 / 3  # the rest for three labels is less than the least listed
    full = of_one("A", tokens, unseen_share=1).probabilities[0]
    np.testing.assert_allclose(full, np.array([0.7, 0.2, bound, bound, bound]) / 0.96)
    half = of_one("A", tokens).probabilities[0]
    np.testing.assert_allclose(half[2] / half[0], bound / 2 / 0.7)


def test_what_is_hidden_at_a_second_position_is_weighed_by_how_likely_that_position_is():
    names = ("ab", "ac", "ad")
    places = [place(("a", 0.5), ("x", 0.5)), place(("b", 0.7), ("z", 0.2))]
    result = of_one("ab", *places, names=names, answers=None, unseen_share=1)
    # Seen: 0.5 * 0.7. Unlisted at the second position: 0.5 * 0.1 for two labels, which is less than 0.5 * 0.2 each.
    np.testing.assert_allclose(result.probabilities[0], np.array([0.35, 0.025, 0.025]) / 0.4)


def test_the_truth_lies_within_the_bound():
    rng = np.random.default_rng(0)
    vocabulary = [*"ABCDE", "zu", "zv", "zw", "zx", "zy"]
    hidden = 0
    for _ in range(200):
        p = rng.dirichlet(np.full(10, 0.5))
        top = np.argsort(-p)[:6]
        result = of_one("zu", place(*((vocabulary[i], p[i]) for i in top)), unseen_share=1)
        none = of_one("zu", place(*((vocabulary[i], p[i]) for i in top)), unseen_share=0)
        seen = np.array([p[i] if i in top else 0 for i in range(5)])
        np.testing.assert_allclose(1 - none.off_label_mass[0], seen.sum(), atol=1e-12)
        upper = min(p[top[-1]], max(0, 1 - p[top].sum()))
        assert (p[:5] <= seen + upper + 1e-12).all()
        if seen.sum() > 0 and (seen == 0).any():
            hidden += 1
            m = (seen == 0).sum()
            guess = result.probabilities[0][seen == 0] / result.probabilities[0][seen > 0].sum() * seen.sum()
            np.testing.assert_allclose(guess, min(p[top[-1]], (1 - p[top].sum()) / m), rtol=1e-9)
    assert hidden > 50


def test_rounded_log_probabilities_may_sum_to_more_than_one():
    result = of_one("A", place(("A", 0.99), ("B", 0.0101)))
    assert result.off_label_mass[0] == 0
    assert np.isfinite(result.probabilities).all()
    assert result.probabilities.min() >= 0


def test_the_beginning_of_one_label_counts_and_of_two_does_not():
    letters = of_one("B", place(("B", 0.8), ("a", 0.1), ("A", 0.1)), unseen_share=0)  # "a" is more often a word
    np.testing.assert_allclose(letters.probabilities[0, :2], [0.1 / 0.9, 0.8 / 0.9])
    tokens = place(("graph", 0.5), ("P", 0.2), ("PC", 0.1), (" mac", 0.05), ("g", 0.02), ("gre", 0.03))
    names = ("graphics", "PC hardware", "Printer", "Mac hardware")
    result = of_one("graphics", tokens, names=names, answers=None, unseen_share=0)
    np.testing.assert_allclose(result.probabilities[0], np.array([0.5, 0.1, 0, 0.05]) / 0.65)
    np.testing.assert_allclose(result.ambiguous_mass, [0.2 + 0.02])  # "P" of two labels, "g" of any word
    np.testing.assert_allclose(result.off_label_mass, [0.35])


def test_a_shared_beginning_is_followed_to_the_next_position():
    names = ("comp.graphics", "comp.windows.x", "comp.sys.mac")
    places = [
        place(("comp", 0.8), ("Comp", 0.1), ("rec", 0.1)),
        place((".", 0.9), ("uter", 0.1)),
        place(("windows", 0.6), ("graph", 0.3), ("sys", 0.1)),
        place((".x", 1.0)),
    ]
    result = of_one("comp.windows.x", *places, names=names, answers=None, unseen_share=0)
    np.testing.assert_allclose(result.probabilities, [[0.3, 0.6, 0.1]])
    np.testing.assert_allclose(result.off_label_mass, [1 - 0.8 * 0.9])
    np.testing.assert_allclose(result.ambiguous_mass, [0.1])  # what would have followed "Comp" nobody asked


def test_of_two_tokens_that_fit_the_one_that_leads_on_was_written():
    names = ("comp.graphics", "comp.windows.x")
    places = [
        place(("com", 0.5), ("comp", 0.4)),
        place((".", 1.0)),
        place(("graphics", 0.75), ("windows", 0.25)),
    ]
    result = of_one("comp.graphics", *places, names=names, answers=None, unseen_share=0)
    np.testing.assert_allclose(result.probabilities, [[0.75, 0.25]])
    np.testing.assert_allclose(result.off_label_mass, [0.6])
    # "com" leads on to "comp" as well, but not to the end of the text.
    ended = [places[0], place(("p", 0.6), (".graphics", 0.3), (".windows", 0.1))]
    result = of_one("comp.graphics", *ended, names=names, answers=None, unseen_share=0)
    np.testing.assert_allclose(result.probabilities, [[0.75, 0.25]])
    np.testing.assert_allclose(result.off_label_mass, [1 - 0.4 * 0.4])


def test_a_text_that_ends_before_it_is_decided_names_nothing():
    names = ("comp.graphics", "comp.windows.x")
    result = of_one("comp", place(("comp", 0.9), ("", 0.1)), names=names, answers=None)
    assert result.probabilities.tolist() == [[0.5, 0.5]]
    assert result.off_label_mass.tolist() == [1.0]
    np.testing.assert_allclose(result.ambiguous_mass, [0.9])


def test_a_written_token_that_is_not_listed_ends_the_walk():
    names = ("comp.graphics", "comp.windows.x")
    places = [place(("comp", 0.9)), place((".", 0.3)), place(("graphics", 0.7))]
    result = of_one("comp/graphics", *places, names=names, answers=None, unseen_share=0)
    assert result.off_label_mass.tolist() == [1.0]
    np.testing.assert_allclose(result.ambiguous_mass, [0.9 * 0.3])


def test_half_a_character_is_read_as_bytes():
    names = ("Ärger", "Öl")  # both begin with the byte C3
    places = [
        place((b"\xc3", 0.8), ("Nichts", 0.2)),
        place((b"\x84", 0.75), (b"\x96", 0.25)),
    ]
    result = of_one("Ärger", *places, place(("rger", 1.0)), names=names, answers=None, unseen_share=0)
    np.testing.assert_allclose(result.probabilities, [[0.75, 0.25]])
    np.testing.assert_allclose(result.off_label_mass, [0.2])
    places = [place((b"\xe2", 1.0)), place((b"\x82\xac", 1.0)), place(("1", 0.6), ("2", 0.4))]
    result = of_one("€1", *places, names=("€1", "€2"), answers=None, unseen_share=0)
    np.testing.assert_allclose(result.probabilities, [[0.6, 0.4]])


def test_the_written_token_counts_only_if_the_text_bears_it_out():
    tokens = place(("A", 0.8), ("B", 0.2))
    assert of_one("A", tokens, unseen_share=0).probabilities[0, 0] == pytest.approx(0.8)
    for text in ("A question about memory", "Account"):
        astray = of_one(text, tokens, unseen_share=0)
        assert astray.probabilities.tolist() == [[0, 1, 0, 0, 0]]
        np.testing.assert_allclose(astray.off_label_mass, [0.8])


def test_blanks_quotation_marks_and_trimmed_text():
    for text in ("B", ' "B"', '"B"'):
        result = of_one(text, place((' "', 1.0)), place(("B", 0.9), ("A", 0.1)), unseen_share=0)
        np.testing.assert_allclose(result.probabilities, [[0.1, 0.9, 0, 0, 0]]) if '"' in text else None
        np.testing.assert_allclose(result.ambiguous_mass, [0.0 if '"' in text else 1.0])
    trimmed = of_one("B", place(("\n\n", 0.5)), place((" B", 0.5), (" A", 0.5)), unseen_share=0)
    np.testing.assert_allclose(trimmed.probabilities, [[0.5, 0.5, 0, 0, 0]])
    np.testing.assert_allclose(trimmed.off_label_mass, [0.5])


def test_nothing_on_a_label_is_uniform_and_reported_and_gives_no_label():
    result = of_one("Sorry", place(("Sorry", 1.0)), unseen_share=0)
    assert result.probabilities.tolist() == [[0.2] * 5]
    assert result.off_label_mass.tolist() == [1.0]
    assert result.labels == {}
    assert of_one("Sorry", place(("Sorry", 0.9), ("B", 0.1))).labels == {"q": 1}


def test_samples_are_averaged_and_what_cannot_be_read_is_counted():
    records = [
        failed("lost"),
        answered("q", "A", place(("A", 0.9), ("B", 0.1))),
        answered("other", "E", place(("E", 1.0)), finish_reason="length"),
        answered("q", "B", place(("A", 0.5), ("B", 0.3), ("\n", 0.2)), sample=1),
        answered("q", "", finish_reason="content_filter", sample=2),
        answered("refused", "no", finish_reason="refusal"),
    ]
    result = probabilities_from_logprobs(records, QUEUES, answers="ABCDE", unseen_share=0)
    assert result.inputs == ("q", "other")
    np.testing.assert_allclose(result.probabilities, [[0.7 / 0.9, 0.2 / 0.9, 0, 0, 0], [0, 0, 0, 0, 1]])
    np.testing.assert_allclose(result.off_label_mass, [0.1, 0], atol=1e-12)
    np.testing.assert_allclose(result.ambiguous_mass, [0.1, 0])
    assert result.n_unread == 2


@pytest.mark.parametrize(
    ("names", "answers"),
    [(("Mac", "Mac hardware"), None), (("Mac", "Macintosh"), None), (QUEUES, ["1", "2", "3", "4", "10"])],
)
def test_answers_that_tokens_cannot_tell_apart_are_refused(names, answers):
    with pytest.raises(ValueError, match=r"begins the answer .* letters or numbers of equal length"):
        of_one("Mac", place(("Mac", 1.0)), names=names, answers=answers)
    numbers = [f"{i:02}" for i in range(1, len(names) + 1)]
    assert of_one("02", place(("02", 1.0)), names=names, answers=numbers).probabilities.argmax() == 1


@pytest.mark.parametrize(
    ("records", "settings", "message"),
    [
        ([answered("q", "A", place(("A", 1.0))), answered(SECRET, "B")], {}, "record 1 has no log-prob.*top_logprobs="),
        ([answered(SECRET, "A", place(("A", 1.0))), answered(SECRET, "A", place(("A", 1.0)), model="n")], {}, "one of"),
        ([failed(SECRET)], {}, "none of the 1 records"),
        ([], {}, "none of the 0 records"),
        ([answered("q", "A", place(("A", 1.0)))], {"unseen_share": 1.5}, "unseen_share .* 1.5"),
    ],
)
def test_records_that_cannot_be_used(records, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        probabilities_from_logprobs(records, QUEUES, answers="ABCDE", **settings)
    assert SECRET not in str(error.value)


def test_samples_are_counted():
    texts = ["X", "It is X.", "graphics", "no idea", "Windows or X"]
    records = [answered("q", text, sample=i) for i, text in enumerate(texts)] + [answered("r", "?"), failed("s")]
    result = probabilities_from_samples(records, QUEUES)
    np.testing.assert_allclose(result.probabilities, [[1 / 3, 0, 0, 0, 2 / 3], [0.2] * 5])
    np.testing.assert_allclose(result.off_label_mass, [2 / 5, 1])
    assert (result.inputs, result.n_unread) == (("q", "r"), 1)
    smooth = probabilities_from_samples(records, QUEUES, smoothing=1)
    np.testing.assert_allclose(smooth.probabilities[0], np.array([2, 1, 1, 1, 3]) / 8)
    with pytest.raises(ValueError, match=r"smoothing .* -1"):
        probabilities_from_samples(records, QUEUES, smoothing=-1)


def test_samples_stay_in_the_order_of_the_records():
    records = [answered("b", "1"), answered("a", "2"), answered("b", "3", sample=1)]
    grouped = samples_of_inputs(records)
    assert list(grouped) == ["b", "a"]
    assert grouped["b"] == [records[0], records[2]]
    with pytest.raises(ValueError, match="record 1 comes twice; read_journal"):
        samples_of_inputs([records[0], records[0]])


def test_calibrated_keeps_the_masses():
    records = [answered("q", "A", place(("A", 0.6), ("B", 0.1))), answered("r", "B", place(("A", 0.6), ("B", 0.3)))]
    raw = probabilities_from_logprobs(records, ("a", "b"), answers="AB")
    mended = raw.calibrated()
    np.testing.assert_array_equal(mended.probabilities, batch_calibrated(raw.probabilities))
    prior = raw.calibrated(prior=[1, 3]).probabilities
    np.testing.assert_array_equal(prior, matched_to_prior(raw.probabilities, [1, 3]))
    assert mended.inputs == raw.inputs
    np.testing.assert_array_equal(mended.off_label_mass, raw.off_label_mass)


def test_a_repr_is_one_line_without_a_text():
    records = [answered("secret", "A", place(("A", 0.6), ("x", 0.4))), failed("s")]
    shown = repr(probabilities_from_logprobs(records, ("a", "b"), answers="AB"))
    assert shown == "LabelProbabilities(1 inputs × 2 labels, mean off-label mass 0.400, 1 unread)"
