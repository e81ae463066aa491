"""A teacher's logits of words: kept on disk, read back, computed anew for anything else."""

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification
from word_tokenizers import word_tokenizer

from distill_helpers.models.text_models import TextClassifier
from distill_helpers.models.word_predictions import predict_word_logits
from distill_helpers.students.creation import create_transformer
from distill_helpers.targets import cache
from distill_helpers.targets.logits import precompute_teacher_logits
from distill_helpers.targets.word_logits import precompute_teacher_word_logits

TEXTS = [["the", "miller"], ["Grey", "stripes", "since", "the", "update"], ["daughter"], ["a", "b", "c"]]
OPTIONS = {"device": "cpu", "progress": False}


@pytest.fixture
def teacher():
    tokenizer = word_tokenizer("wordpiece")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(
        vocab_size=len(tokenizer), initializer_range=0.5, max_position_embeddings=40, num_labels=3, **sizes
    )
    return TextClassifier(BertForTokenClassification(config).eval(), tokenizer)


def test_logits_come_back_from_disk_in_shards_of_different_sizes(teacher, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "SHARD_SIZE", 3)
    first = precompute_teacher_word_logits(teacher, TEXTS, cache_dir=tmp_path, **OPTIONS)
    torch.testing.assert_close(first.logits, predict_word_logits(teacher, TEXTS).logits)
    assert (first.n_read, first.n_words) == ([2, 5, 1, 3], [2, 5, 1, 3])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    teacher.model.register_forward_hook(lambda *_: pytest.fail("the teacher was asked again"))
    again = precompute_teacher_word_logits(teacher, [tuple(words) for words in TEXTS], cache_dir=tmp_path, **OPTIONS)
    assert torch.equal(again.logits, first.logits)


def test_an_interrupted_run_computes_what_is_missing_alone(teacher, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "SHARD_SIZE", 1)
    whole = precompute_teacher_word_logits(teacher, TEXTS, cache_dir=tmp_path, **OPTIONS)
    next(tmp_path.rglob("00002.safetensors")).unlink()
    seen = []
    teacher.model.register_forward_hook(lambda *_: seen.append(1))
    assert torch.equal(
        precompute_teacher_word_logits(teacher, TEXTS, cache_dir=tmp_path, **OPTIONS).logits, whole.logits
    )
    assert seen == [1]


@pytest.mark.parametrize("texts", [[["the miller"], *TEXTS[1:]], [TEXTS[1], TEXTS[0], *TEXTS[2:]]])
def test_other_words_have_another_key(teacher, tmp_path, texts) -> None:
    precompute_teacher_word_logits(teacher, TEXTS, cache_dir=tmp_path, **OPTIONS)
    logits = precompute_teacher_word_logits(teacher, texts, cache_dir=tmp_path, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == 2
    torch.testing.assert_close(logits.logits, predict_word_logits(teacher, texts).logits)


def test_words_that_the_teacher_does_not_read_are_counted(teacher) -> None:
    with pytest.warns(UserWarning, match=r"3 of 11 words lie beyond the teacher's max_length.*have no soft targets"):
        logits = precompute_teacher_word_logits(teacher, TEXTS, max_length=9, **OPTIONS)
    assert logits.n_read == [2, 2, 1, 3]


def test_logits_that_are_not_finite_are_refused_with_row_and_word(teacher, monkeypatch) -> None:
    monkeypatch.setattr(cache, "SHARD_SIZE", 1)
    forward = teacher.model.forward

    def broken(**batch):
        outputs = forward(**batch)
        if len(batch["input_ids"][0]) > 10:
            word = teacher.tokenizer(TEXTS[1], is_split_into_words=True).word_ids(0).index(3)
            outputs.logits[0, word, 1] = torch.nan
        return outputs

    monkeypatch.setattr(teacher.model, "forward", broken)
    with pytest.raises(ValueError, match=r"row 1, word 3: the teacher's logits are not finite"):
        precompute_teacher_word_logits(teacher, TEXTS, **OPTIONS)


def test_teachers_of_another_kind_or_order_are_refused(teacher) -> None:
    of_texts = TextClassifier(create_transformer(("a", "b"), len(teacher.tokenizer), hidden_size=16), teacher.tokenizer)
    with pytest.raises(ValueError, match="is a single_label model"):
        precompute_teacher_word_logits(of_texts, TEXTS, **OPTIONS)
    with pytest.raises(ValueError, match="reorder your labels"):
        precompute_teacher_word_logits(teacher, TEXTS, label_names=("LABEL_1", "LABEL_0", "LABEL_2"), **OPTIONS)
    with pytest.raises(ValueError, match=r"classifies tokens.*precompute_teacher_word_logits"):
        precompute_teacher_logits(teacher, ["the miller"], **OPTIONS)
