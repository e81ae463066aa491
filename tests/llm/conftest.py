"""Small language models with the help desk's words, and prompts with completions."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

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
    completions = [" " + " ".join(w[5:]) for w in words]
    completions[3], completions[7] = f" {words[3][5]}", f" {words[7][5]}"
    return [" ".join(w[:5]) for w in words], completions


@pytest.fixture(scope="session")
def completions(pairs, language_tokenizer):
    return CompletionDataset.from_pairs(*pairs, language_tokenizer, max_length=40)


@pytest.fixture(scope="session")
def make_tokenizer(help_desk):
    """Makes a small tokenizer of one of the three families that divide the world between them.

    "bpe" works on bytes, as GPT-2's; "metaspace" writes blanks as ▁ and one before each text, as Llama's; "wordpiece"
    drops blanks, as BERT's. With `begin`, each text begins with `<s>`; with `close`, it also ends with `</s>`.
    """

    def make(family="bpe", *, side="right", pad="<pad>", begin=False, close=False, template=None):
        special = [token for token in ("<s>", "</s>", "<unk>", pad, "<turn>", "</turn>") if token]
        options = {"vocab_size": 400, "special_tokens": special, "show_progress": False}
        if family == "wordpiece":
            tokenizer, trainer = Tokenizer(models.WordPiece(unk_token="<unk>")), trainers.WordPieceTrainer(**options)
            tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        elif family == "metaspace":
            tokenizer, trainer = Tokenizer(models.BPE(unk_token="<unk>")), trainers.BpeTrainer(**options)
            tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        else:
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            tokenizer, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(**options, initial_alphabet=alphabet)
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator([*help_desk.train.texts[:100], "A line.\nAnother: (one), two!"], trainer)
        if begin or close:
            tokenizer.post_processor = processors.TemplateProcessing(
                single=" ".join(["<s>"] * begin + ["$A"] + ["</s>"] * close),
                special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
            )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            pad_token=pad,
            padding_side=side,
            chat_template=template,
        )

    return make
