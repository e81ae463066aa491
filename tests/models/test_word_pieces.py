"""Words and their pieces: which token stands for which word, whatever the tokenizer."""

import re

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from word_tokenizers import word_tokenizer

from distill_helpers.models.batching import TokenIds, segments_of
from distill_helpers.models.word_pieces import check_words, encode_words

KINDS = ("wordpiece", "bpe", "unigram")
TOKENIZERS = {kind: word_tokenizer(kind) for kind in KINDS}
# Letters, marks that tokenizers split at, digits, blanks inside a word, accents, special tokens spelled out.
CHARACTERS = strategies.sampled_from([*"abcdeirstGöß.,'-_0 7ǆ日", "</s>", "\u0301", "\u200d", "👍"])
WORDS = (
    strategies.lists(CHARACTERS, min_size=1, max_size=6).map("".join).filter(lambda word: word.strip("\u200d \u0301"))
)
TEXTS = strategies.lists(strategies.lists(WORDS, min_size=1, max_size=12), min_size=1, max_size=4)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(texts=TEXTS)
@quick
def test_the_pieces_of_a_word_are_those_of_the_word_alone(kind, texts) -> None:
    tokenizer = TOKENIZERS[kind]
    encoded = encode_words(tokenizer, texts)
    assert encoded.n_words == encoded.n_read == list(map(len, texts))
    assert encoded.n_cut == 0
    assert encoded.told_cut("student") is None
    for words, token_ids, places in zip(texts, encoded.token_ids, encoded.first_pieces, strict=True):
        alone = [tokenizer([word], is_split_into_words=True, add_special_tokens=False)["input_ids"] for word in words]
        assert token_ids == [2, *(piece for pieces in alone for piece in pieces), 3]
        assert places == [1 + sum(map(len, alone[:i])) for i in range(len(words))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(texts=TEXTS, max_length=strategies.integers(3, 20))
@quick
def test_cutting_a_text_keeps_its_first_words_and_says_how_many_are_lost(kind, texts, max_length) -> None:
    whole = encode_words(TOKENIZERS[kind], texts)
    cut = encode_words(TOKENIZERS[kind], texts, max_length)
    assert max(map(len, cut.token_ids)) <= max_length
    for places, fewer in zip(whole.first_pieces, cut.first_pieces, strict=True):
        # The last place of a cut text belongs to </s>.
        assert fewer == [place for place in places if place < max_length - 1]
    lost = sum(map(len, whole.first_pieces)) - sum(map(len, cut.first_pieces))
    assert cut.n_cut == lost
    assert (cut.told_cut("student") is None) == (lost == 0)


@pytest.mark.slow
@given(texts=TEXTS)
@quick
def test_words_are_counted_alike_by_all_tokenizers(texts) -> None:
    n_read = [encode_words(tokenizer, texts).n_read for tokenizer in TOKENIZERS.values()]
    assert n_read[0] == n_read[1] == n_read[2]


def test_what_was_cut_is_told_with_numbers_and_a_row() -> None:
    encoded = encode_words(TOKENIZERS["wordpiece"], [["a"], ["the"] * 9, ["the"] * 7], max_length=8)
    assert encoded.told_cut("teacher") == (
        "4 of 17 words lie beyond the teacher's max_length and were cut off, in 2 texts (the first is row 1: 6 of its 9"
        " words are left)"
    )
    assert repr(encoded) == "EncodedWords(3 texts, 17 words, 19 tokens, 4 cut off)"


@pytest.mark.parametrize(
    "tokenizer", [word_tokenizer("bpe", add_prefix_space=False), word_tokenizer("unigram", prepend="never")]
)
def test_a_tokenizer_that_needs_a_space_before_words_is_refused(tokenizer) -> None:
    with pytest.raises(ValueError, match=r"'a a' becomes .* as a text, and .* as two words.*add_prefix_space=True"):
        encode_words(tokenizer, [["the", "miller"]])


def test_a_roberta_tokenizer_loaded_as_the_error_says_is_accepted(tmp_path) -> None:
    from transformers import AutoTokenizer, RobertaTokenizer

    vocab = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "Ġ", "Ġa"])}
    RobertaTokenizer(vocab=vocab, merges=[("Ġ", "a")]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="add_prefix_space"):
        encode_words(AutoTokenizer.from_pretrained(tmp_path), [["a", "b"]])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, add_prefix_space=True)
    assert encode_words(tokenizer, [["a", "ab", "b"]]) == ([[0, 8, 8, 6, 7, 6, 2]], [[1, 2, 4]], [3])


def test_metaspace_that_marks_the_first_word_alone_marks_each_of_several_words() -> None:
    first = word_tokenizer("unigram", prepend="first")
    encoded = encode_words(first, [["a", "a"]])
    assert encoded.token_ids == encode_words(TOKENIZERS["unigram"], [["a", "a"]]).token_ids


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "non-empty list of texts, each of them a list of words"),
        ("a text", "non-empty list of texts"),
        (["my mac"], "row 0: the text is one str.*`text.split\\(\\)`"),
        ([["a"], []], "row 1: the text has no word"),
        ([["a"], None], "row 1: a NoneType is no list of words"),
        ([["a"], {"a": 1}], "row 1: a dict is no list of words"),
        ([["a", ""]], "row 0, word 1: the word is empty"),
        ([["a", " "]], "row 0, word 1: the word is empty"),
        ([["a"], ["a", None]], "row 1, word 1: the word is empty, not a string"),
        ([["a", 7]], "row 0, word 1: the word"),
        ([["a", "\x00"]], "row 0, word 1: the word is empty"),
        ([["a", "\u200b"]], "row 0, word 1: the word is empty"),
        ([["a", "\ud800"]], "row 0, word 1: the word"),
        ([[["a"]]], "row 0, word 0: the word"),
    ],
)
def test_what_is_no_text_of_words_is_refused_with_row_and_word(texts, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_words(texts)


def test_a_word_that_becomes_no_token_is_refused_with_row_and_word() -> None:
    # A combining accent alone is a character, which this tokenizer takes away.
    with pytest.raises(ValueError, match=re.escape("row 1, word 1: '\u0301' becomes no token")):
        encode_words(TOKENIZERS["wordpiece"], [["a"], ["a", "\u0301"]])


def test_a_tokenizer_that_cuts_the_beginning_is_refused_where_something_is_cut() -> None:
    tokenizer = word_tokenizer("wordpiece")
    tokenizer.truncation_side = "left"
    assert encode_words(tokenizer, [["the", "miller"]]).n_cut == 0
    with pytest.raises(ValueError, match=r"row 1: the text must be cut to 4 tokens.*truncation_side = 'right'"):
        encode_words(tokenizer, [["a"], ["the", "miller", "who", "had"]], max_length=4)


def test_a_max_length_without_room_for_a_word_is_refused() -> None:
    tokenizer = word_tokenizer("wordpiece")
    with pytest.raises(ValueError, match="max_length must be at least 3"):
        encode_words(tokenizer, [["a"]], max_length=2)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(TypeError, match=r"Slow is a slow tokenizer.*fast version"):
        encode_words(Slow(), [["a"]])


def test_segments_of_a_tokenizer_that_makes_some_are_kept() -> None:
    from tokenizers import processors

    tokenizer = word_tokenizer("wordpiece")
    template = processors.TemplateProcessing(single="<s>:2 $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    tokenizer.backend_tokenizer.post_processor = template
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    [token_ids] = encode_words(tokenizer, [["a", "a"]]).token_ids
    assert isinstance(token_ids, TokenIds)
    assert segments_of(token_ids) == [2, 0, 0, 0]
