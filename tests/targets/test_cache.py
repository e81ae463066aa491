"""The cache itself: fingerprints, keys, and shards that are whole or not there. Whole runs are in test_logits.py."""

import copy
import logging

import pytest
import torch

from distill_helpers import load_text_classifier
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
    model, tokenizer = make_classifier(seed=1)
    keys = [
        cache_key(model, tokenizer, ["a", "b"], 32, torch.float32, **more)
        for more in ({}, {"features": ["hidden.0"]}, {"features": ["hidden.1"]}, {"features": ["hidden.0", "hidden.1"]})
    ]
    assert len(set(keys)) == 4
    assert cache_key(model, tokenizer, ("a", "b"), 32, torch.float32) == keys[0]


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
