"""Token classifiers saved and loaded: never a classifier of texts in the place of one of tokens, nor the reverse."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    RobertaConfig,
)
from word_tokenizers import word_tokenizer

import distill_helpers as dh
from distill_helpers.models.text_models import label_options

NAMES = ("lower", "Upper", "digit")
TEXTS = [["the", "miller"], ["Grey", "stripes", "since", "the", "update"]]
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS = {
    "BERT": (BertConfig, _SIZES),
    "RoBERTa": (RobertaConfig, _SIZES | {"pad_token_id": 0}),
    "DistilBERT": (DistilBertConfig, {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}),
    "ModernBERT": (ModernBertConfig, _SIZES | {"pad_token_id": 0}),
    "GPT-2": (GPT2Config, {"n_embd": 16, "n_layer": 2, "n_head": 2}),
    "Llama": (LlamaConfig, _SIZES),
}


def tagger(kind="BERT", seed=0):
    tokenizer = word_tokenizer("wordpiece")
    make, sizes = CONFIGS[kind]
    options = {"vocab_size": len(tokenizer), "pad_token_id": 0} | sizes | label_options(NAMES)
    torch.manual_seed(seed)
    model = AutoModelForTokenClassification.from_config(make(initializer_range=0.5, **options)).eval()
    return dh.TextClassifier(model, tokenizer)


def save(classifier, folder):
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder


def assert_same(one, other):
    assert type(one.model) is type(other.model)
    assert one.label_names == other.label_names
    torch.testing.assert_close(
        dh.predict_word_logits(one, TEXTS).logits, dh.predict_word_logits(other, TEXTS).logits, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_token_classifier_comes_back_from_its_folder(kind, tmp_path) -> None:
    saved = tagger(kind)
    save(saved, tmp_path)
    assert_same(dh.load_token_classifier(tmp_path, device="cpu"), saved)
    assert_same(dh.load_text_classifier(tmp_path, device="cpu"), saved)


@pytest.mark.parametrize("kind", CONFIGS)
def test_students_are_of_the_teachers_class_and_survive_saving(kind, tmp_path) -> None:
    teacher = tagger(kind)
    students = [dh.cut_layers(teacher, [0])]
    if kind != "GPT-2":  # whose feed-forward layers have no setting of their own
        students.append(dh.narrow_student(teacher, hidden_size=8, n_heads=2))
    for i, student in enumerate(students):
        assert type(student.model) is type(teacher.model)
        assert dh.prediction_task(student.model) == "token_classification"
        assert student.label_names == NAMES
        assert_same(dh.load_text_classifier(save(student, tmp_path / str(i)), device="cpu"), student)


def test_a_small_transformer_of_tokens_learns_words() -> None:
    teacher = tagger()
    student = dh.create_student(teacher, [["the", "miller"], ["update"]], vocab_size=100, hidden_size=8, seed=4)
    assert type(student.model).__name__ == "BertForTokenClassification"
    same = dh.create_student(teacher, [("the", "miller"), ("update",)], vocab_size=100, hidden_size=8, seed=4)
    assert_same(student, same)
    with pytest.raises(ValueError, match=r"row 0: the text is one str"):
        dh.create_student(teacher, ["the miller"], vocab_size=100)
    with pytest.raises(ValueError, match=r"task must be one of .*'token_classification'\], got 'tokens'"):
        dh.create_transformer(NAMES, 100, task="tokens")
    with pytest.raises(ValueError, match="a token_classification model needs two or more"):
        dh.create_transformer(("one",), 100, task="token_classification")


def test_a_classifier_of_texts_is_not_taken_for_one_of_tokens(tmp_path) -> None:
    """BERT's two heads have the same shape, so that transformers would load one for the other without a word."""
    tokenizer = word_tokenizer("wordpiece")
    of_texts = dh.TextClassifier(dh.create_transformer(NAMES, len(tokenizer), hidden_size=16), tokenizer)
    save(of_texts, tmp_path)
    with pytest.raises(ValueError, match=r"does not say that it classifies tokens.*pass label_names"):
        dh.load_token_classifier(tmp_path, device="cpu")
    renewed = [dh.load_token_classifier(tmp_path, label_names=NAMES, device="cpu", seed=seed) for seed in (0, 0, 1)]
    heads = [classifier.model.classifier.weight for classifier in renewed]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], of_texts.model.classifier.weight), "the trained head lives on"
    assert torch.equal(
        renewed[0].model.bert.embeddings.word_embeddings.weight, of_texts.model.bert.embeddings.word_embeddings.weight
    )


def test_a_token_classifier_becomes_a_classifier_of_texts_only_with_a_new_head(tmp_path) -> None:
    saved = tagger("ModernBERT", seed=7)  # a seed of its own, since a new head is a function of the seed
    save(saved, tmp_path)
    of_texts = dh.load_text_classifier(tmp_path, label_names=NAMES, device="cpu")
    assert dh.prediction_task(of_texts.model) == "single_label"
    assert not torch.equal(of_texts.model.classifier.weight, saved.model.classifier.weight)


@pytest.mark.parametrize("load", [dh.load_token_classifier, dh.load_text_classifier])
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
def test_an_adapter_of_tokens_is_merged_into_its_base(load, tmp_path) -> None:
    base = tagger()
    save(base, tmp_path / "base")
    model = AutoModelForTokenClassification.from_pretrained(
        tmp_path / "base", **label_options(("a", "b")), ignore_mismatched_sizes=True
    )
    config = LoraConfig(task_type="TOKEN_CLS", r=2, target_modules=["query"], init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    merged = load(tmp_path / "adapter", label_names=("a", "b"), device="cpu")
    assert merged.label_names == ("a", "b")
    with_adapter = dh.predict_word_logits(dh.TextClassifier(adapted.get_base_model(), base.tokenizer), TEXTS).logits
    torch.testing.assert_close(dh.predict_word_logits(merged, TEXTS).logits, with_adapter, rtol=0, atol=1e-5)


def test_the_remedy_for_tokenizers_that_mark_words_by_a_space_works(tmp_path) -> None:
    tokenizer = word_tokenizer("bpe", add_prefix_space=False)
    model = dh.create_transformer(NAMES, len(tokenizer), hidden_size=16, task="token_classification")
    save(dh.TextClassifier(model, tokenizer), tmp_path)
    with pytest.raises(ValueError, match="add_prefix_space=True"):
        dh.load_token_classifier(tmp_path, device="cpu").predict(TEXTS)
    loaded = dh.load_token_classifier(tmp_path, add_prefix_space=True, device="cpu")
    assert loaded.predict(TEXTS)["word"].tolist() == [word for words in TEXTS for word in words]
