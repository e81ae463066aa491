"""Small language models with the help desk's words, and prompts with completions."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig

from distill_helpers.llm import CompletionDataset
from distill_helpers.models.text_models import LanguageModel


@pytest.fixture(scope="session")
def language_tokenizer(small_tokenizer):
    tokenizer = type(small_tokenizer)(
        vocab=small_tokenizer.get_vocab(), model_max_length=64, padding_side="left", eos_token="[SEP]"
    )
    tokenizer.bos_token = "[CLS]"
    return tokenizer


@pytest.fixture(scope="session")
def make_language_model(language_tokenizer):
    """Makes a tiny causal language model with random weights whose logits are spread enough to differ."""

    def make(seed=0, *, kind="llama", hidden_size=32, n_layers=2, rows=0, dropout=0.0):
        tokens = {
            "vocab_size": len(language_tokenizer) + rows,
            "pad_token_id": language_tokenizer.pad_token_id,
            "bos_token_id": language_tokenizer.bos_token_id,
            "eos_token_id": language_tokenizer.eos_token_id,
        }
        sizes = {
            "hidden_size": hidden_size,
            "intermediate_size": 2 * hidden_size,
            "num_hidden_layers": n_layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
        }
        config = {
            "llama": lambda: LlamaConfig(**tokens, **sizes, attention_dropout=dropout, tie_word_embeddings=True),
            "gemma2": lambda: Gemma2Config(**tokens, **sizes, head_dim=8, final_logit_softcapping=3.0),
            "gpt2": lambda: GPT2Config(**tokens, n_embd=hidden_size, n_layer=n_layers, n_head=4, n_positions=64),
        }[kind]()
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(15)
        return LanguageModel(model, language_tokenizer)

    return make


@pytest.fixture(scope="session")
def pairs(help_desk):
    """Twelve prompts of five words, and what follows them; two are short."""
    words = [text.split() for text in help_desk.train.texts[:12]]
    completions = [" ".join(w[5:]) for w in words]
    completions[3], completions[7] = words[3][5], words[7][5]
    return [" ".join(w[:5]) for w in words], completions


@pytest.fixture(scope="session")
def completions(pairs, language_tokenizer):
    return CompletionDataset.from_pairs(*pairs, language_tokenizer, max_length=40)
