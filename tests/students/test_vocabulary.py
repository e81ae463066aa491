"""Vocabularies that lose no word, and embeddings that are really the teacher's."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.decomposition import PCA
from tiny_models import distances, same_weights, student_of
from tokenizers import AddedToken
from transformers import AutoTokenizer, BertTokenizer

from distill_helpers.models.architectures import embedding_weight
from distill_helpers.students.vocabulary import project_embeddings, trim_vocabulary

ASCII = [chr(code) for code in range(33, 127)]
ALWAYS_KEPT = 5 + 2 * (94 - 26)  # special tokens; printable characters but capitals, alone and as a continuation


# trim_vocabulary


@pytest.fixture(scope="module")
def trimmed(base_tokenizer, texts):
    return trim_vocabulary(base_tokenizer, texts, 600)


def unknown_words(tokenizer, words):
    return {word for word in words if "[UNK]" in tokenizer.tokenize(word)}


def test_size_is_respected_and_the_old_indices_are_those_of_the_same_tokens(base_tokenizer, trimmed):
    tokenizer, kept = trimmed
    assert len(tokenizer) == len(kept) == 600
    assert tokenizer.convert_ids_to_tokens(range(600)) == base_tokenizer.convert_ids_to_tokens(kept)


def test_special_tokens_stay_and_do_their_work(trimmed):
    tokenizer, _ = trimmed
    assert {tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id} == {
        tokenizer.get_vocab()[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    }
    ids = tokenizer("the screen")["input_ids"]
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["[CLS]", "[SEP]"]


def test_ascii_characters_stay_alone_and_inside_words(base_tokenizer):
    tokenizer, _ = trim_vocabulary(base_tokenizer, ["one"], ALWAYS_KEPT)
    assert len(tokenizer) == ALWAYS_KEPT
    assert unknown_words(tokenizer, ASCII) == set()
    assert unknown_words(tokenizer, [first + second for first in "aZ7" for second in ASCII]) == set()


@pytest.mark.slow
@pytest.mark.parametrize("size", [ALWAYS_KEPT, 300, 2000])
def test_no_word_of_the_help_desk_becomes_unknown(base_tokenizer, help_desk, size):
    everything = [*help_desk.train.texts, *help_desk.validation.texts, *help_desk.test.texts]
    words = {word for text in everything for word in text.split()}
    tokenizer, _ = trim_vocabulary(base_tokenizer, help_desk.train.texts, size)
    assert unknown_words(tokenizer, words) <= unknown_words(base_tokenizer, words)


@pytest.mark.slow
@given(
    words=st.lists(
        st.text(st.characters(categories=["L", "M", "N", "P", "S"], exclude_characters="\0"), min_size=1, max_size=8),
        min_size=1,
        max_size=8,
    )
)
@settings(deadline=None, max_examples=40)
def test_no_word_of_any_corpus_in_any_script_becomes_unknown(base_tokenizer, words):
    tokenizer, _ = trim_vocabulary(base_tokenizer, words, 400)
    assert unknown_words(tokenizer, words) <= unknown_words(base_tokenizer, words)


def test_a_german_word_without_its_entry_is_spelled_out(base_tokenizer):
    text = "straße über слово"
    tokenizer, _ = trim_vocabulary(base_tokenizer, [text], 200)
    fewer, _ = trim_vocabulary(base_tokenizer, [text], len(tokenizer) - 3)
    assert "[UNK]" not in base_tokenizer.tokenize(text)
    assert "[UNK]" not in fewer.tokenize(text)


@given(size=st.integers(150, 900), start=st.integers(0, 100))
@settings(deadline=None, max_examples=15)
@pytest.mark.slow
def test_the_entries_used_most_are_kept(base_tokenizer, help_desk, size, start):
    corpus = help_desk.train.texts[start : start + 40]
    tokenizer, _ = trim_vocabulary(base_tokenizer, corpus, size)
    counts = Counter(token for text in corpus for token in base_tokenizer.tokenize(text))
    optional = {token: n for token, n in counts.items() if len(token.removeprefix("##")) > 1}
    kept = tokenizer.get_vocab().keys() & optional.keys()
    assert len(tokenizer) == min(size, ALWAYS_KEPT + len(optional))
    fewest_kept = min((optional[token] for token in kept), default=np.inf)
    most_dropped = max((n for token, n in optional.items() if token not in kept), default=0)
    assert fewest_kept >= most_dropped


def test_texts_whose_pieces_were_all_kept_are_encoded_as_before(base_tokenizer, help_desk, trimmed):
    tokenizer, kept = trimmed
    words = sorted({word for text in help_desk.test.texts[:300] for word in text.split()})
    whole = [w for w in words if set(base_tokenizer(w, add_special_tokens=False)["input_ids"]) <= set(kept)]
    assert 100 < len(whole) < len(words)  # the test has something to say
    text = " ".join(whole)
    assert [kept[i] for i in tokenizer(text)["input_ids"]] == base_tokenizer(text)["input_ids"]


def test_it_survives_saving(trimmed, texts, tmp_path):
    tokenizer, _ = trimmed
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(texts)["input_ids"] == tokenizer(texts)["input_ids"]


def test_case_and_accents_are_treated_as_before(base_tokenizer):
    vocabulary = [*base_tokenizer.get_vocab(), *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "Für"]
    cased = BertTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, do_lower_case=False, strip_accents=False)
    tokenizer, _ = trim_vocabulary(cased, ["Für Windows für", "Für"], 260)
    assert tokenizer.tokenize("Für")[0] == cased.tokenize("Für")[0] == "Für"
    # Lower case, but accents stay: a German model.
    german = BertTokenizer(vocab={t: i for i, t in enumerate([*vocabulary, "für"])}, strip_accents=False)
    tokenizer, _ = trim_vocabulary(german, ["Für Windows"], 260)
    assert tokenizer.tokenize("FÜR")[0] == german.tokenize("FÜR")[0] == "für"


def test_the_length_limit_is_inherited(base_tokenizer, trimmed):
    assert trimmed[0].model_max_length == base_tokenizer.model_max_length == 512


def test_a_vocabulary_too_small_for_the_characters_is_refused(base_tokenizer):
    with pytest.raises(ValueError, match=f"size must be at least {ALWAYS_KEPT} .*, got 100"):
        trim_vocabulary(base_tokenizer, ["one"], 100)


# project_embeddings


def test_at_the_teachers_width_all_distances_are_kept(base_classifier, trimmed):
    _, kept = trimmed
    student = student_of(384, len(kept))
    share = project_embeddings(student, base_classifier.model, kept)
    source = embedding_weight(base_classifier.model)[kept].detach()
    found = embedding_weight(student).detach()
    assert share == pytest.approx(1)
    torch.testing.assert_close(distances(found), distances(source), atol=1e-4, rtol=1e-4)
    centred = source - source.mean(dim=0)
    torch.testing.assert_close(found @ found.T, centred @ centred.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", [2, 32, 128])
def test_below_it_the_share_of_variance_is_that_of_a_pca(base_classifier, trimmed, width):
    _, kept = trimmed
    student = student_of(width, len(kept))
    share = project_embeddings(student, base_classifier.model, kept)
    pca = PCA(width, svd_solver="full").fit(embedding_weight(base_classifier.model)[kept].detach().double().numpy())
    assert 0 < share < 1
    assert share == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-6)
    variances = embedding_weight(student).detach().double().var(dim=0)  # in order, the first direction first
    np.testing.assert_allclose(variances.numpy(), pca.explained_variance_, rtol=1e-4)


def test_it_is_deterministic_and_touches_nothing_else(base_classifier, trimmed):
    _, kept = trimmed
    before = copy.deepcopy(base_classifier.model.state_dict())
    first, second = student_of(32, len(kept)), student_of(32, len(kept))
    untouched = copy.deepcopy(first.state_dict())
    project_embeddings(first, base_classifier.model, kept)
    project_embeddings(second, base_classifier.model, kept)
    assert same_weights(first, second)
    changed = [name for name, tensor in first.state_dict().items() if not torch.equal(tensor, untouched[name])]
    assert changed == ["bert.embeddings.word_embeddings.weight"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in base_classifier.model.state_dict().items())
    assert embedding_weight(first).requires_grad


def test_the_sign_of_a_component_is_fixed_by_its_largest_entry(make_classifier):
    # Left to the linear-algebra library, it would differ between machines, and with it every student.
    teacher, student = make_classifier(seed=1).model, student_of(8, 100)
    project_embeddings(student, teacher, range(100))
    source = embedding_weight(teacher)[:100].detach()
    directions = (source - source.mean(dim=0)).T @ embedding_weight(student).detach()
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    assert (largest > 0).all()


@pytest.mark.parametrize(
    ("width", "entries", "kept", "message"),
    [
        (16, 100, range(99), "has 100 entries, kept_ids has 99"),
        (64, 100, range(100), "width of 64 from a 100 × 32 embedding"),
        (16, 10, range(10), "width of 16 from a 10 × 32 embedding"),
    ],
    ids=["another vocabulary", "wider than the teacher", "wider than the vocabulary"],
)
def test_sizes_that_do_not_fit_are_refused(make_classifier, width, entries, kept, message):
    with pytest.raises(ValueError, match=message):
        project_embeddings(student_of(width, entries), make_classifier().model, kept)


def test_rows_that_the_teacher_does_not_have_are_named(make_classifier):
    teacher = make_classifier().model
    with pytest.raises(ValueError, match=r"kept_ids names row 400, and the teacher's embedding has 400 rows"):
        project_embeddings(student_of(2, 3), teacher, [5, 400, 401])
    with pytest.raises(ValueError, match=r"names row -1"):
        project_embeddings(student_of(2, 3), teacher, [5, -1, 3])


# Added tokens


@pytest.fixture
def with_added(base_tokenizer):
    tokenizer = copy.deepcopy(base_tokenizer)
    tokenizer.add_tokens(["[url]", AddedToken("<num>", single_word=True)])
    tokenizer.add_tokens([AddedToken("[ticket]", special=True)], special_tokens=True)
    return tokenizer


ADDED = ["see [url] please", "[url][url] <num>", "x<num>", "[ticket] [e-mail]"]


def test_added_tokens_are_still_produced_and_keep_their_rows(with_added, tmp_path):
    tokenizer, kept = trim_vocabulary(with_added, ["see please x"], 300)
    tokenizer.save_pretrained(tmp_path)
    for trimmed in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        for text in ADDED:
            pieces = [p for p in with_added.tokenize(text) if p in with_added.get_added_vocab()]
            assert [p for p in trimmed.tokenize(text) if p in with_added.get_added_vocab()] == pieces
        assert len(trimmed) == len(kept)
        assert trimmed.convert_ids_to_tokens(range(len(kept))) == with_added.convert_ids_to_tokens(kept)
    ids = tokenizer("see [url]")["input_ids"]
    assert [kept[i] for i in ids] == with_added("see [url]")["input_ids"]
    assert tokenizer.decode(tokenizer("see [ticket]")["input_ids"], skip_special_tokens=True) == "see"


def test_added_tokens_count_as_always_kept(with_added):
    with pytest.raises(ValueError, match=rf"at least {ALWAYS_KEPT + 3} \(special and added tokens"):
        trim_vocabulary(with_added, ["one"], ALWAYS_KEPT + 2)
    assert len(trim_vocabulary(with_added, ["one"], ALWAYS_KEPT + 3)[0]) == ALWAYS_KEPT + 3


def test_sides_and_special_tokens_are_inherited(base_tokenizer):
    other = copy.deepcopy(base_tokenizer)
    other.padding_side, other.truncation_side, other.mask_token = "left", "left", "[UNK]"
    tokenizer, _ = trim_vocabulary(other, ["one"], 300)
    assert (tokenizer.padding_side, tokenizer.truncation_side, tokenizer.mask_token) == ("left", "left", "[UNK]")
