"""The cache itself: fingerprints, keys, and shards that are whole or not there. Whole runs are in test_logits.py."""

import copy
import logging
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from distill_helpers import TextClassifier, load_text_classifier, precompute_teacher_logits
from distill_helpers.targets import cache
from distill_helpers.targets.cache import cache_key, read_shard, tensor_bytes, weights_fingerprint, write_shard

TENSORS = {"states": torch.arange(12.0).reshape(4, 3), "more": torch.ones(4, 2, 1, dtype=torch.bfloat16)}
SHAPES = {"states": (4, 3), "more": (4, 2, 1)}


def test_a_shard_comes_back_as_it_was_written(tmp_path):
    write_shard(tmp_path / "0.safetensors", TENSORS)
    found = read_shard(tmp_path / "0.safetensors", SHAPES)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["0.safetensors"]  # nothing beside it


def test_a_view_is_written_as_what_it_shows(tmp_path):
    write_shard(tmp_path / "0.safetensors", {"states": TENSORS["states"].T})
    assert torch.equal(read_shard(tmp_path / "0.safetensors", {"states": (3, 4)})["states"], TENSORS["states"].T)


def test_a_shard_that_is_not_there_is_no_damage(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert read_shard(tmp_path / "0.safetensors", SHAPES) is None
    assert not caplog.records


@pytest.mark.parametrize(
    "shapes",
    [{"states": (4, 3)}, {**SHAPES, "third": (4,)}, {**SHAPES, "states": (3, 4)}, {"other": (4, 3), "more": (4, 2, 1)}],
)
def test_a_shard_of_other_names_or_shapes_is_damaged(tmp_path, caplog, shapes):
    path = tmp_path / "0.safetensors"
    write_shard(path, TENSORS)
    with caplog.at_level(logging.WARNING, logger="distill_helpers"):
        assert read_shard(path, shapes) is None
    assert str(path) in caplog.text


def test_the_bytes_are_those_of_the_values_whatever_the_dtype():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool):
        tensor = torch.tensor([[0, 1], [1, 1]]).to(dtype)
        assert len(tensor_bytes(tensor)) == 4 * dtype.itemsize
        assert bytes(tensor_bytes(tensor.T)) == bytes(tensor_bytes(tensor.T.contiguous()))
    assert bytes(tensor_bytes(torch.tensor([1.0]))) != bytes(tensor_bytes(torch.tensor([-1.0])))


def test_what_a_kind_of_tensor_adds_is_in_the_key(make_classifier):
    teacher = make_classifier(seed=1)
    keys = [
        cache_key(teacher, ["a", "b"], 32, torch.float32, **more)
        for more in ({}, {"features": ["hidden.0"]}, {"features": ["hidden.1"]}, {"features": ["hidden.0", "hidden.1"]})
    ]
    assert len(set(keys)) == 4
    assert cache_key(teacher, ("a", "b"), 32, torch.float32) == keys[0]


def test_the_fingerprint_sees_names_dtypes_shapes_and_bytes(make_classifier, tmp_path):
    model = make_classifier(seed=1).model
    fingerprint = weights_fingerprint(model)
    assert fingerprint == weights_fingerprint(make_classifier(seed=1).model)
    assert fingerprint != weights_fingerprint(make_classifier(seed=2).model)
    assert fingerprint != weights_fingerprint(copy.deepcopy(model).bfloat16())
    model.save_pretrained(tmp_path)
    make_classifier().tokenizer.save_pretrained(tmp_path)
    assert fingerprint == weights_fingerprint(load_text_classifier(tmp_path, device="cpu").model)
    with torch.no_grad():
        square = model.bert.pooler.dense.weight
        square.copy_(square.T.clone())  # the same numbers in another order
    assert fingerprint != weights_fingerprint(model)


# State outside the weights


@pytest.fixture
def adapted(make_classifier):
    """A classifier with two random adapters, "a" and "b"; "a" is active."""
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], init_lora_weights=False)
    model, tokenizer = make_classifier(seed=1)
    model = get_peft_model(copy.deepcopy(model), config, adapter_name="a")
    model.add_adapter("b", config)
    model.set_adapter("a")
    return TextClassifier(model.eval(), tokenizer)


def lora_layers(model):
    return [module for module in model.modules() if hasattr(module, "merged_adapters") and hasattr(module, "scaling")]


def other_scaling(model):
    for layer in lora_layers(model):
        layer.scaling["a"] *= 2


def another_activation(model):
    model.base_model.model.bert.encoder.layer[0].intermediate.intermediate_act_fn = torch.nn.ReLU()


def another_epsilon(model):
    model.base_model.model.bert.embeddings.LayerNorm.eps = 0.5


def another_forward(model):
    model.base_model.model.bert.encoder.layer[0].output.forward = lambda hidden, _: hidden[..., :32]


def another_unsaved_buffer(model):
    model.base_model.model.bert.embeddings.token_type_ids += 1


STATES = {
    "the other adapter": lambda model: model.set_adapter("b"),
    "adapters off": lambda model: model.base_model.disable_adapter_layers(),
    "merged": lambda model: model.merge_adapter(),
    "another scaling": other_scaling,
    "another activation in a module": another_activation,
    "another epsilon in a module": another_epsilon,
    "a replaced forward": another_forward,
    "a buffer that is not saved": another_unsaved_buffer,
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES.keys())
def test_a_change_outside_the_saved_weights_changes_the_fingerprint(adapted, change):
    before = weights_fingerprint(adapted.model)
    assert weights_fingerprint(adapted.model) == before
    change(adapted.model)
    assert weights_fingerprint(adapted.model) != before


def test_another_adapter_never_gets_the_logits_of_the_one_before(adapted, tmp_path):
    def logits(**options):
        return precompute_teacher_logits(adapted, ["where is my order"], device="cpu", progress=False, **options)

    logits(cache_dir=tmp_path)
    adapted.model.set_adapter("b")
    assert torch.equal(logits(cache_dir=tmp_path), logits())


def test_the_mode_of_a_model_and_its_gradients_do_not_change_the_fingerprint(adapted):
    before = weights_fingerprint(adapted.model)
    adapted.model.train()
    adapted.model.requires_grad_(False)
    assert weights_fingerprint(adapted.model) == before


def test_another_attention_function_is_in_the_fingerprint_and_the_exact_ones_are_one(make_classifier):
    model = copy.deepcopy(make_classifier(seed=1).model)
    found = {}
    for name in ("eager", "sdpa", "somebodys_approximation"):
        model.config._attn_implementation_internal = name
        found[name] = weights_fingerprint(model)
    assert found["eager"] == found["sdpa"] != found["somebodys_approximation"]


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_model_has_a_fingerprint_that_sees_its_weights(make_classifier):
    def quantised(seed):
        model = copy.deepcopy(make_classifier(seed=seed).model)
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})

    first = weights_fingerprint(quantised(1))
    assert first == weights_fingerprint(quantised(1))
    assert len({first, weights_fingerprint(quantised(2)), weights_fingerprint(make_classifier(seed=1).model)}) == 3


@pytest.mark.parametrize(("name", "value"), [("pad_token", "[MASK]"), ("split_special_tokens", True)])
def test_what_a_tokenizer_says_in_memory_alone_is_in_the_key(make_classifier, name, value):
    model, tokenizer = make_classifier(seed=1)
    other = copy.deepcopy(tokenizer)
    setattr(other, name, value)
    keys = {cache_key(TextClassifier(model, t), ["a"], 32, torch.float32) for t in (tokenizer, other)}
    assert len(keys) == 2


# Files


@pytest.mark.parametrize("place", ["00001.safetensors", "../other/00000.safetensors"])
def test_a_shard_that_was_copied_over_another_is_damaged(tmp_path, caplog, place):
    source, target = tmp_path / "key" / "00000.safetensors", tmp_path / "key" / place
    for path in (source, target):
        path.parent.mkdir(exist_ok=True)
    write_shard(source, TENSORS)
    shutil.copy(source, target)
    assert read_shard(source, SHAPES) is not None
    with caplog.at_level(logging.WARNING, logger="distill_helpers"):
        assert read_shard(target, SHAPES) is None
    assert "damaged" in caplog.text


def test_a_shard_appears_whole_under_its_name_and_each_process_writes_a_file_of_its_own(tmp_path, monkeypatch):
    path, written = tmp_path / "0.safetensors", []

    def save(tensors, name, **options):
        save_file(tensors, name, **options)
        written.append(name)
        assert not path.exists()  # the shard's own name is taken only when the file is whole

    monkeypatch.setattr(cache, "save_file", save)
    for process in (11, 12):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        path.unlink(missing_ok=True)
        write_shard(path, TENSORS)
    assert len(set(written)) == 2
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
