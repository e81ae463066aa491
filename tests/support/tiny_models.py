"""Tiny transformers of several architectures with random weights, and what must not change in them."""

import copy

import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
)

from distill_helpers.models.text_models import TextClassifier, label_options
from distill_helpers.students.creation import create_transformer

NAMES = ("graphics", "windows", "mac")
ARCHITECTURES = ("bert", "distilbert", "llama")


def tiny_config(kind, vocab_size, n_layers):
    """4 layers of width 32 with 4 heads and 48 feed-forward neurons. The initial weights are large enough to matter."""
    options = {"vocab_size": vocab_size, "pad_token_id": 0, "initializer_range": 0.2, **label_options(NAMES)}
    usual = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": n_layers, "num_attention_heads": 4}
    match kind:
        case "bert":
            return BertConfig(**options, **usual, max_position_embeddings=40)
        case "distilbert":
            return DistilBertConfig(
                **options, dim=32, hidden_dim=48, n_layers=n_layers, n_heads=4, max_position_embeddings=40
            )
        case "llama":
            return LlamaConfig(**options, **usual, num_key_value_heads=2, mlp_bias=True, max_position_embeddings=40)
        case "qwen2":  # with sliding windows from the second layer on
            return Qwen2Config(
                **options,
                **usual,
                num_key_value_heads=2,
                use_sliding_window=True,
                sliding_window=4,
                max_window_layers=1,
                eos_token_id=[5, 6, 7, 8],
            )
        case "gpt2":
            return GPT2Config(**options, n_embd=32, n_layer=n_layers, n_head=4, n_positions=40)
    raise ValueError(kind)


def tiny_model(config, seed=0):
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():  # biases start at 0, where a bias that is cut wrongly would not be noticed
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and "norm" not in name.lower():
                parameter.normal_(std=0.2)
    return model


def tiny_teacher(kind, tokenizer, *, n_layers=4, seed=0):
    return TextClassifier(tiny_model(tiny_config(kind, len(tokenizer), n_layers), seed), tokenizer)


def snapshot(model):
    """All that must not change in a teacher: weights, configuration, mode and the numbers of its layers."""
    numbers = [m.layer_idx for m in model.modules() if hasattr(m, "layer_idx")]
    return {**copy.deepcopy(model.state_dict())}, model.config.to_dict(), model.training, numbers


def student_of(width, entries):
    """A BERT of one layer with so many entries in its vocabulary."""
    return create_transformer(NAMES, entries, hidden_size=width, n_layers=1, n_heads=1)


def distances(embedding):
    return torch.cdist(embedding.double(), embedding.double())


def same_weights(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def assert_untouched(model, before):
    weights, *rest = snapshot(model)
    assert weights.keys() == before[0].keys()
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in weights.items())
    assert tuple(rest) == before[1:]
    assert hooks_of(model) == 0


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
