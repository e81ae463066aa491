"""A quantised layer has as many weights as before, wherever it keeps them. `test_measures.py` has PyTorch's layers."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic

from distill_helpers.models.parameter_counts import count_bytes, count_parameters


class Packed(nn.Module):
    """A linear layer as AWQ stores it: eight four-bit weights in each integer, beside scales and zero points."""

    def __init__(self, in_features, out_features, *, bias=True, names=("in_features", "out_features"), per_integer=8):
        super().__init__()
        setattr(self, names[0], in_features)
        setattr(self, names[1], out_features)
        self.register_buffer("qweight", torch.zeros(in_features, out_features // per_integer, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(in_features // 8, out_features // per_integer, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(in_features // 8, out_features, dtype=torch.float16))
        self.register_buffer("bias", torch.zeros(out_features, dtype=torch.float16) if bias else None)


@pytest.mark.parametrize("names", [("in_features", "out_features"), ("infeatures", "outfeatures")])
@pytest.mark.parametrize("bias", [True, False])
def test_weights_in_the_integers_of_a_buffer_count(names, bias):
    layer = Packed(16, 32, bias=bias, names=names)
    assert count_parameters(nn.Sequential(layer, nn.Linear(3, 2))) == 16 * 32 + 32 * bias + 8
    assert count_bytes(layer) == 16 * 4 * 4 + 2 * 4 * 4 + 2 * 32 * 2 + 64 * bias


def test_weights_in_the_integers_of_a_parameter_count():
    layer = nn.Linear(16, 32)
    layer.weight = nn.Parameter(torch.zeros(32 * 16 // 2, 1, dtype=torch.uint8), requires_grad=False)  # as HQQ does
    assert count_parameters(layer) == 16 * 32 + 32


class EightBit(nn.Linear):
    """As the eight-bit layer of bitsandbytes saves itself: the scale of each row beside the weight."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.weight = nn.Parameter(torch.zeros(*reversed(sizes), dtype=torch.int8), requires_grad=False)
        self.scales = torch.ones(sizes[1])

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}SCB"] = self.scales


def test_scales_beside_a_weight_are_bytes_and_no_weights():
    assert count_parameters(EightBit(16, 32)) == 16 * 32 + 32
    assert count_bytes(EightBit(16, 32)) == 16 * 32 + 4 * 32 + 4 * 32


def test_plain_and_tied_weights_count_once():
    tied = nn.ModuleDict({"embedding": nn.Embedding(10, 4), "head": nn.Linear(4, 10, bias=False)})
    tied["head"].weight = tied["embedding"].weight
    assert count_parameters(tied) == 40
    assert count_bytes(tied) == 160


def test_the_summary_of_a_quantised_classifier_says_all_of_its_weights(make_classifier):
    classifier = make_classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch announces another library in the place of torch.ao
        small = quantize_dynamic(copy.deepcopy(classifier.model), {nn.Linear}, dtype=torch.qint8)
    assert small.num_parameters() < classifier.model.num_parameters()
    assert repr(classifier._replace(model=small)) == repr(classifier)


def test_layers_of_bitsandbytes():
    layers = pytest.importorskip("bitsandbytes").nn
    for layer in (layers.Linear4bit(64, 128), layers.Linear8bitLt(64, 128, has_fp16_weights=False)):
        assert count_parameters(layer) == 64 * 128 + 128
        quantised = layer.to("cpu").eval()
        assert quantised.weight.dtype in (torch.uint8, torch.int8)
        assert count_parameters(quantised) == 64 * 128 + 128
        assert 64 * 128 // 2 < count_bytes(quantised) < 2 * 64 * 128
