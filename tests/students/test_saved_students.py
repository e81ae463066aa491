"""What is saved is what was trained: students of fifteen architectures, saved and loaded again, give equal logits."""

import json

import pytest
import torch
import transformers as tr
from architectures_table import (
    ARCHITECTURES,
    WAYS,
    difference_after_loading,
    difference_by_batch,
    own_classifier,
    small_tokenizer,
    tiny_classifier,
    tiny_decoder,
    trimmed_student,
)
from peft import LoraConfig, get_peft_model

import distill_helpers as dh
from distill_helpers.models.layer_settings import keep_layers_in_config
from distill_helpers.models.saved_structure import check_saved_structure

DECODERS = list(ARCHITECTURES)[list(ARCHITECTURES).index("GPT-2") :]
# Ways that are refused, with a word of the reason.
REFUSED = {
    ("ModernBERT", "cut_layers 1, 2"): "'model.layers.0.attn_norm' is a LayerNorm, then a Identity",
    ("T5 encoder", "cut_layers 1, 2"): "has_relative_attention_bias",
    ("ModernBERT", "prune neurons"): "feed-forward part of ModernBertEncoderLayer is not known",
    ("GPT-2", "prune neurons"): "feed-forward part of GPT2Block is not known",
    ("GPT-2", "narrow_student"): "GPT2Config has none of",
    ("Qwen3-MoE", "prune neurons"): "feed-forward part of Qwen3MoeDecoderLayer is not known",
    ("DeepSeek-V3", "prune neurons"): "feed-forward part of DeepseekV3DecoderLayer is not known",
}
# The same weights at another place in memory: on some processors their products differ in the last bit.
ROUNDING = 1e-6
SLOW_WAYS = [pytest.param(way, marks=() if way.startswith("cut") else pytest.mark.slow) for way in WAYS]


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def assert_saved_as_made(name, way, teacher, folder):
    if message := REFUSED.get((name, way)):
        with pytest.raises((TypeError, ValueError), match=message):
            WAYS[way](teacher)
    else:
        assert difference_after_loading(WAYS[way](teacher), folder) <= ROUNDING


@pytest.mark.parametrize("way", SLOW_WAYS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_classifier_is_what_was_made_or_is_refused(tokenizer, name, way, tmp_path):
    assert_saved_as_made(name, way, tiny_classifier(name, tokenizer), tmp_path)


@pytest.mark.parametrize("way", [w for w in SLOW_WAYS if w.values[0] not in ("create_student", "narrow_student")])
@pytest.mark.parametrize("name", DECODERS)
def test_a_language_model_is_what_was_made_or_is_refused(tokenizer, name, way, tmp_path):
    assert_saved_as_made(name, way, tiny_decoder(name, tokenizer), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_student_with_a_trimmed_vocabulary_of_its_teachers_kind_is_what_was_made(name, tmp_path):
    teacher = own_classifier(name)
    student = trimmed_student(teacher)
    assert len(student.tokenizer) < len(teacher.tokenizer)
    assert student.model.config.vocab_size == len(student.tokenizer)
    assert difference_after_loading(student, tmp_path) <= ROUNDING
    if name != "T5 encoder":
        assert difference_by_batch(student) < 1e-5


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "T5 encoder"])
def test_a_classifiers_logits_depend_neither_on_the_batch_nor_on_the_side_of_padding(tokenizer, name):
    assert difference_by_batch(tiny_classifier(name, tokenizer)) < 1e-5


def test_a_narrow_token_classifier_is_a_token_classifier(tokenizer):
    student = dh.narrow_student(tiny_classifier("T5 encoder", tokenizer), hidden_size=16)
    assert type(student.model).__name__ == "T5ForTokenClassification"


def test_several_labels_at_a_time_stay_several_labels(tokenizer):
    teacher = tiny_classifier("BERT", tokenizer)
    teacher.model.config.problem_type = "multi_label_classification"
    student = dh.create_student(teacher, ["no sound"], vocab_size=200, hidden_size=16)
    assert dh.prediction_task(student.model) is dh.PredictionTask.MULTI_LABEL


def test_a_setting_that_scales_layers_by_their_number_is_named(tokenizer):
    config = tiny_classifier("GPT-2", tokenizer).model.config
    config.scale_attn_by_inverse_layer_idx = True
    teacher = dh.TextClassifier(tr.GPT2ForSequenceClassification(config).eval(), tokenizer)
    with pytest.raises(ValueError, match=r"another model after saving .*'scale_attn_by_inverse_layer_idx'\] seem to"):
        dh.cut_layers(teacher, [1, 2])


def test_an_adapter_that_is_not_merged_is_refused(tokenizer):
    model, _ = tiny_classifier("BERT", tokenizer)
    adapted = dh.TextClassifier(get_peft_model(model, LoraConfig(r=2, target_modules=["query"])), tokenizer)
    with pytest.raises(ValueError, match=r"saves the adapter alone.*merge_and_unload"):
        dh.cut_layers(adapted, [0, 3])
    with pytest.raises(ValueError, match=r"saves the adapter alone.*merge_and_unload"):
        dh.narrow_student(adapted, hidden_size=16)


def test_a_configuration_that_was_changed_after_the_model_was_built_is_refused(tokenizer):
    model, _ = tiny_classifier("BERT", tokenizer)
    check_saved_structure(model)
    model.config.hidden_act = "relu"
    with pytest.raises(ValueError, match=r"intermediate_act_fn' is a GELU\w*, then a ReLU"):
        check_saved_structure(model)


def test_weights_that_the_configuration_ties_and_the_model_does_not_are_refused(tokenizer):
    model = tiny_decoder("Llama", tokenizer).model
    model.config.tie_word_embeddings = True
    with pytest.raises(ValueError, match="tied weights are"):
        check_saved_structure(model)


@pytest.mark.parametrize(
    ("settings", "kept", "expected"),
    [
        ({"mlp_only_layers": [0, 3]}, [1, 3], {"mlp_only_layers": [1], "decoder_sparse_step": 1}),
        ({"decoder_sparse_step": 2}, [1, 2, 3], {"mlp_only_layers": [1], "decoder_sparse_step": 1}),
        ({"mlp_only_layers": []}, [1, 3], {"mlp_only_layers": []}),
    ],
)
def test_the_layers_without_experts_are_cut_with_the_layers(settings, kept, expected):
    config = tr.Qwen3MoeConfig(num_hidden_layers=4, **settings)
    keep_layers_in_config(config, kept)
    found = json.loads(config.to_json_string(use_diff=False))
    assert {name: found[name] for name in expected} == expected
    assert config.num_hidden_layers == len(kept)


@pytest.mark.parametrize(("kept", "dense"), [([0, 1, 2], 2), ([1, 3], 1), ([2, 3], 0)])
def test_the_first_dense_layers_are_counted_again(kept, dense):
    config = tr.DeepseekV3Config(num_hidden_layers=4, first_k_dense_replace=2)
    keep_layers_in_config(config, kept)
    assert config.first_k_dense_replace == dense


def test_the_check_takes_no_memory_for_the_weights(tokenizer, monkeypatch):
    model, _ = tiny_classifier("BERT", tokenizer)
    devices = []
    init = type(model).__init__

    def record(self, config):
        init(self, config)
        devices.append({parameter.device.type for parameter in self.parameters()})

    monkeypatch.setattr(type(model), "__init__", record)
    check_saved_structure(model)
    assert devices == [{"meta"}]
    assert torch.get_default_device().type == "cpu"
