"""Heads as their models compute with them."""

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
)

from distill_helpers.llm.output_heads import OutputHead, output_head

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "plain": LlamaConfig(**SMALL),
    "tied": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "capped": Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=1.5),
    "multiplied": CohereConfig(**SMALL, logit_scale=0.25),
    "divided": GraniteConfig(**SMALL, logits_scaling=3.0),
}


def small_model(kind):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_head_gives_the_logits_of_its_model(kind):
    model = small_model(kind)
    ids = torch.arange(10).reshape(2, 5)
    with torch.no_grad():
        hidden = model.base_model(ids).last_hidden_state
        expected = model(ids).logits
        head = output_head(model)
        assert isinstance(head, OutputHead)
        logits = head.logits(hidden.flatten(0, 1))
    torch.testing.assert_close(logits, expected.flatten(0, 1))
    # A check that could not fail where the cap or factor does nothing.
    plain = hidden.flatten(0, 1) @ head.weight.t()
    assert torch.allclose(logits, plain) == (kind in ("plain", "tied"))


def test_logits_are_written_where_they_are_wanted():
    head = OutputHead(torch.randn(7, 3), torch.randn(7), soft_cap=2.0, scale=0.5)
    hidden, buffer = torch.randn(4, 3), torch.empty(4, 7)
    logits = head.logits(hidden, out=buffer)
    assert logits.data_ptr() == buffer.data_ptr()
    raw = 0.5 * (hidden @ head.weight.t() + head.bias)
    torch.testing.assert_close(buffer, 2.0 * (raw / 2.0).tanh())


@pytest.mark.parametrize(("soft_cap", "scale"), [(None, 1.0), (1.5, 1.0), (None, 0.3), (1.5, 0.3)])
def test_the_gradient_before_cap_and_scale_is_autograds(soft_cap, scale):
    head = OutputHead(torch.eye(6), soft_cap=soft_cap, scale=scale)
    raw, gradient = torch.randn(2, 5, 6, dtype=torch.float64)
    raw = raw.clone().requires_grad_()
    logits = raw * scale if soft_cap is None else soft_cap * (raw * scale / soft_cap).tanh()
    logits.backward(gradient)
    torch.testing.assert_close(head.gradient_before(gradient.clone(), logits.detach().clone()), raw.grad)


def test_a_head_under_lora_comes_as_the_module_that_it_is():
    model = get_peft_model(small_model("plain"), LoraConfig(target_modules=["lm_head"], r=2))
    assert isinstance(output_head(model.base_model.model), nn.Module)
    capped = get_peft_model(small_model("capped"), LoraConfig(target_modules=["lm_head"], r=2))
    with pytest.raises(ValueError, match=r"Gemma2ForCausalLM caps or scales its logits, and its head is a Linear"):
        output_head(capped.base_model.model)


def test_a_repr_is_one_line_with_the_sizes():
    assert repr(OutputHead(torch.zeros(2000, 3))) == "OutputHead(2,000 tokens, width 3, float32)"
    head = OutputHead(torch.zeros(4, 3).half(), torch.zeros(4).half(), soft_cap=30.0, scale=0.25)
    assert repr(head) == "OutputHead(4 tokens, width 3, float16, with a bias, soft_cap=30, scale=0.25)"


def test_a_model_without_a_head_is_refused():
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    with pytest.raises(ValueError, match="BertModel has no output embeddings"):
        output_head(BertModel(config))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight": torch.zeros(3, 2, dtype=torch.int8)}, TypeError, r"floating-point tensor .* got torch.int8"),
        ({"weight": [[1.0]]}, TypeError, "got list"),
        ({"weight": torch.zeros(3)}, ValueError, r"\(vocabulary, width\), got \(3,\)"),
        ({"weight": torch.zeros(0, 2)}, ValueError, r"got \(0, 2\)"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, ValueError, r"3 rows .* shape \(2,\)"),
        ({"weight": torch.zeros(3, 2), "soft_cap": 0.0}, ValueError, "soft_cap must be .* got 0.0"),
        ({"weight": torch.zeros(3, 2), "scale": math.inf}, ValueError, "scale must be .* got inf"),
    ],
)
def test_what_is_no_head_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        OutputHead(**arguments)
