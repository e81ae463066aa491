"""A fine-tuned classifier as a low-rank adapter of its base."""

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import BertConfig, BertForSequenceClassification

from distill_helpers.course.low_rank import LINEAR_LAYERS, low_rank_adapter

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 3}


@pytest.fixture
def base() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=50, **SIZES)).eval()


def changed(base: BertForSequenceClassification, rank: int, *, everything: bool = False) -> torch.nn.Module:
    """A copy of `base` whose linear layers have changed by matrices of a rank, and its head, or each of its weights."""
    tuned = copy.deepcopy(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, layer in tuned.named_modules():
            if name.rpartition(".")[2] in LINEAR_LAYERS:
                rows, columns = layer.weight.shape
                layer.weight += 0.02 * torch.randn(rows, rank) @ torch.randn(rank, columns)
        tuned.classifier.weight += 0.1
        if everything:
            tuned.bert.embeddings.word_embeddings.weight += 0.3
    return tuned


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(20).view(2, 10)).logits


def test_a_change_of_that_rank_is_kept_whole_and_saved(base: BertForSequenceClassification, tmp_path: Path) -> None:
    before, tuned = logits(base), changed(base, 3)
    low_rank_adapter(tuned, base, 3).save_pretrained(tmp_path)
    assert torch.equal(logits(base), before), "the base is copied"
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).merge_and_unload().eval()
    torch.testing.assert_close(logits(loaded), logits(tuned), atol=5e-3, rtol=0)  # half precision
    assert not torch.allclose(logits(loaded), before, atol=0.05)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 40_000


def test_of_a_larger_change_the_best_approximation_is_kept(base: BertForSequenceClassification) -> None:
    tuned = changed(base, 8, everything=True)
    cut = low_rank_adapter(tuned, base, 3).float().merge_and_unload()
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    whole, kept = (dict(model.named_parameters())[name] - dict(base.named_parameters())[name] for model in (tuned, cut))
    assert torch.linalg.matrix_rank(kept, atol=1e-3) == 3
    lost = torch.linalg.svdvals(whole)[3:].norm()  # no matrix of rank 3 is nearer (Eckart and Young)
    torch.testing.assert_close((whole - kept).norm(), lost, rtol=1e-3, atol=0)
    embeddings = [model.bert.embeddings.word_embeddings.weight for model in (cut, base)]
    torch.testing.assert_close(*embeddings, atol=1e-3, rtol=1e-3)  # half precision; they had changed by 0.3


@pytest.mark.parametrize("rank", [0, -1, 33])
def test_a_rank_that_no_layer_has_is_refused(base: BertForSequenceClassification, rank: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 32, .* got {rank}"):
        low_rank_adapter(base, base, rank)
