"""A token classifier's answers: those of each word's first piece, whatever stands beside it in the batch."""

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification
from word_tokenizers import word_tokenizer

from distill_helpers.models.text_models import TextClassifier, predict_logits
from distill_helpers.models.word_predictions import WordLogits, predict_word_logits, predict_words
from distill_helpers.students.creation import create_transformer

TEXTS = [["the", "miller"], ["Grey", "stripes", "since", "the", "update"], ["daughter"]]


@pytest.fixture(scope="module")
def tagger():
    """A token classifier with random weights, large enough that words differ."""
    tokenizer = word_tokenizer("wordpiece")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    names = {"id2label": {0: "lower", 1: "Upper", 2: "digit"}, "label2id": {"lower": 0, "Upper": 1, "digit": 2}}
    config = BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, max_position_embeddings=40, **sizes, **names)
    return TextClassifier(BertForTokenClassification(config).eval(), tokenizer)


def test_the_logits_of_a_word_are_those_of_its_first_piece(tagger) -> None:
    logits = predict_word_logits(tagger, TEXTS)
    assert (logits.n_read, logits.n_words) == ([2, 5, 1], [2, 5, 1])
    for words, of_text in zip(TEXTS, logits.by_text(), strict=True):
        alone = tagger.tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            outputs = tagger.model(input_ids=alone["input_ids"]).logits[0]
        assert words != TEXTS[1] or len(alone.word_ids(0)) > len(words) + 2, "no word has two pieces"
        first = [alone.word_ids(0).index(word) for word in range(len(words))]
        torch.testing.assert_close(of_text, outputs[first], rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_logits_depend_on_neither_the_batch_nor_the_side_of_the_padding(tagger, batch_size, side, monkeypatch) -> None:
    one = predict_word_logits(tagger, TEXTS).logits
    monkeypatch.setattr(tagger.tokenizer, "padding_side", side)
    torch.testing.assert_close(predict_word_logits(tagger, TEXTS, batch_size=batch_size).logits, one, rtol=0, atol=1e-5)


def test_a_table_has_a_row_for_each_word(tagger) -> None:
    table = predict_words(tagger, TEXTS)
    assert list(table.columns) == ["text", "word", "label", "lower", "Upper", "digit"]
    assert table["text"].tolist() == [0, 0, 1, 1, 1, 1, 1, 2]
    assert table["word"].tolist() == [word for words in TEXTS for word in words]
    probabilities = predict_word_logits(tagger, TEXTS).logits.double().softmax(dim=-1)
    torch.testing.assert_close(torch.tensor(table[["lower", "Upper", "digit"]].to_numpy()), probabilities)
    assert table["label"].tolist() == [("lower", "Upper", "digit")[i] for i in probabilities.argmax(dim=-1)]
    assert tagger.predict(TEXTS).equals(table), "TextClassifier.predict knows the task"


def test_two_words_in_a_tuple_are_words_and_no_pair(tagger) -> None:
    assert tagger.predict([("the", "miller")])["word"].tolist() == ["the", "miller"]


def test_words_that_are_cut_off_are_counted_or_refused(tagger) -> None:
    with pytest.warns(UserWarning, match=r"3 of 8 words lie beyond the model's max_length.*row 1: 2 of its 5 words"):
        logits = predict_word_logits(tagger, TEXTS, max_length=9)
    assert (logits.n_read, logits.n_words) == ([2, 2, 1], [2, 5, 1])
    assert repr(logits) == "WordLogits(3 texts, 5 words, 3 classes, 3 cut off)"
    with pytest.raises(ValueError, match=r"3 of 8 words lie beyond.*raise max_length, or split the texts"):
        predict_words(tagger, TEXTS, max_length=9)


def test_texts_longer_than_the_model_are_refused_with_their_row(tagger) -> None:
    with pytest.raises(ValueError, match=r"row 1: .* 40 positions"):
        predict_word_logits(tagger, [["the"], ["the"] * 50])


def test_a_model_of_whole_texts_is_refused(tagger) -> None:
    model = create_transformer(("a", "b"), len(tagger.tokenizer), hidden_size=16)
    with pytest.raises(ValueError, match=r"is a single_label model.*load_token_classifier"):
        predict_word_logits((model, tagger.tokenizer), TEXTS)


def test_functions_of_whole_texts_refuse_a_token_classifier(tagger) -> None:
    with pytest.raises(ValueError, match=r"`predict_word_logits` with words"):
        predict_logits(tagger, ["the miller"])
    with pytest.raises(ValueError, match=r"the words of a text are for models that classify tokens"):
        predict_logits(tagger, TEXTS)
    with pytest.raises(ValueError, match=r"row 0: the text is one str"):
        tagger.predict(["the miller"])


def test_a_class_called_as_a_column_is_refused(tagger) -> None:
    model = create_transformer(("word", "b"), len(tagger.tokenizer), hidden_size=16, task="token_classification")
    with pytest.raises(ValueError, match="one of the classes is called 'word'"):
        predict_words((model, tagger.tokenizer), TEXTS)


def test_logits_of_ones_own_are_checked() -> None:
    assert WordLogits.from_texts([torch.ones(2, 3), torch.ones(1, 3)]).n_words == [2, 1]
    with pytest.raises(ValueError, match=r"row 1: .*as many classes as in row 0; got a Tensor of shape \(2, 4\)"):
        WordLogits.from_texts([torch.ones(2, 3), torch.ones(2, 4)])
    with pytest.raises(ValueError, match=r"row 0: .*got a list"):
        WordLogits.from_texts([[1.0]])
    with pytest.raises(ValueError, match="one text or more"):
        WordLogits.from_texts([])
