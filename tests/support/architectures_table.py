"""Students of fifteen architectures: saved and loaded again they give equal logits, whatever the batch and the padding.

    python tests/support/architectures_table.py

prints a table with the largest difference of a logit for each architecture and way of making a student, or why a
student is refused. The tests in `tests/students/test_saved_students.py` run over the same lists.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from pathlib import Path

import torch
import transformers as tr
from peft import LoraConfig, get_peft_model
from trained_tokenizers import trained_tokenizer

import distill_helpers as dh
from distill_helpers.models.architectures import transformer_layers
from distill_helpers.models.text_models import LanguageModel, TextClassifier

TEXTS = ["my mac shows a grey screen", "no sound", "the printer prints nothing but stripes since the update", "help"]
_SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
_COMMON = {"initializer_range": 0.2, "max_position_embeddings": 64, "num_labels": 3}
_GROUPED = {"num_key_value_heads": 2}
_LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
_EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}

#: For each architecture its configuration's class and settings. Settings that number layers are not the default.
ARCHITECTURES = {
    "BERT": (tr.BertConfig, _SIZES),
    "RoBERTa": (tr.RobertaConfig, _SIZES),
    "DeBERTa-v2": (
        tr.DebertaV2Config,
        _SIZES | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
    ),
    "ModernBERT": (tr.ModernBertConfig, _SIZES | {"local_attention": 8, "global_attn_every_n_layers": 2}),
    "ELECTRA": (tr.ElectraConfig, _SIZES | {"embedding_size": 16}),
    "DistilBERT": (tr.DistilBertConfig, {"dim": 32, "hidden_dim": 48, "n_layers": 4, "n_heads": 4}),
    "T5 encoder": (tr.T5Config, {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 4, "num_heads": 4}),
    "GPT-2": (tr.GPT2Config, {"n_embd": 32, "n_layer": 4, "n_head": 4}),
    "GPT-NeoX": (tr.GPTNeoXConfig, _SIZES),
    "Llama": (tr.LlamaConfig, _SIZES | _GROUPED),
    "Qwen3": (
        tr.Qwen3Config,
        _SIZES | _GROUPED | {"head_dim": 8, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    ),
    "Qwen3-MoE": (
        tr.Qwen3MoeConfig,
        _SIZES
        | _GROUPED
        | _EXPERTS
        | {"head_dim": 8, "num_experts": 4, "mlp_only_layers": [3], "decoder_sparse_step": 2},
    ),
    "Gemma 3": (
        tr.Gemma3TextConfig,
        _SIZES | _GROUPED | {"head_dim": 8, "sliding_window": 4, "sliding_window_pattern": 2},
    ),
    "Phi": (tr.PhiConfig, _SIZES | _GROUPED),
    "DeepSeek-V3": (
        tr.DeepseekV3Config,
        _SIZES
        | _LATENT
        | _EXPERTS
        | {"first_k_dense_replace": 2, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
    ),
}

#: The kind of tokenizer that an architecture comes with, of `trained_tokenizers.KINDS`.
OWN_TOKENIZERS = {
    "BERT": "BERT",
    "RoBERTa": "RoBERTa",
    "DeBERTa-v2": "DeBERTa-v2",
    "ModernBERT": "GPT-2",
    "ELECTRA": "BERT",
    "DistilBERT": "BERT",
    "T5 encoder": "T5",
    "GPT-2": "GPT-2",
    "GPT-NeoX": "GPT-2",
    "Llama": "Llama 2",
    "Qwen3": "Qwen",
    "Qwen3-MoE": "Qwen",
    "Gemma 3": "Llama 2",
    "Phi": "GPT-2",
    "DeepSeek-V3": "Llama 3",
}


def tiny_classifier(name, tokenizer):
    """A classifier with random weights; of a T5 encoder, a token classifier, for there is no other."""
    make, sizes = ARCHITECTURES[name]
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 3)
    config = make(**(_COMMON | sizes), vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **special)
    kind = tr.AutoModelForTokenClassification if name == "T5 encoder" else tr.AutoModelForSequenceClassification
    torch.manual_seed(0)
    return TextClassifier(kind.from_config(config).eval(), tokenizer)


def tiny_decoder(name, tokenizer):
    """A causal language model with random weights; None for an encoder."""
    if list(ARCHITECTURES).index(name) < list(ARCHITECTURES).index("GPT-2"):
        return None
    torch.manual_seed(0)
    return LanguageModel(
        tr.AutoModelForCausalLM.from_config(tiny_classifier(name, tokenizer).model.config).eval(), tokenizer
    )


def merged(teacher):
    """The teacher with a random adapter, merged."""
    layer = transformer_layers(teacher.model)[0]
    linear = [name for name, part in layer.named_modules() if isinstance(part, (torch.nn.Linear, tr.Conv1D))]
    targets = sorted({name.split(".")[-1] for name in linear})[:1]
    config = LoraConfig(
        r=2, target_modules=targets, init_lora_weights=False, fan_in_fan_out="GPT2" in type(teacher.model).__name__
    )
    return teacher._replace(model=get_peft_model(copy.deepcopy(teacher.model), config).merge_and_unload().eval())


def inputs_of(teacher):
    """The texts; for a teacher that classifies tokens, their words."""
    tokens = dh.prediction_task(teacher.model) == dh.PredictionTask.TOKEN_CLASSIFICATION
    return [text.split() for text in TEXTS] if tokens else TEXTS


WAYS = {
    "create_student": lambda t: dh.create_student(t, inputs_of(t), vocab_size=200, hidden_size=16),
    "cut_layers 0, 3": lambda t: dh.cut_layers(t, [0, 3]),
    "cut_layers 1, 2": lambda t: dh.cut_layers(t, [1, 2]),
    "narrow_student": lambda t: dh.narrow_student(t, hidden_size=16, n_layers=3),
    "prune layers": lambda t: dh.prune(t, TEXTS, n_layers=3),
    "prune neurons": lambda t: dh.prune(t, TEXTS, feed_forward_size=24),
    "merged adapter": merged,
}


def own_classifier(name):
    """A classifier with random weights and the kind of tokenizer that its architecture comes with."""
    return tiny_classifier(name, trained_tokenizer(OWN_TOKENIZERS[name]))


def trimmed_student(teacher):
    """A student whose vocabulary is about half of the teacher's."""
    return dh.create_student(teacher, inputs_of(teacher), vocab_size=len(teacher.tokenizer) // 2, hidden_size=16)


def logits_of(pair, texts=TEXTS):
    """The logits of the real tokens or of the texts, one text at a time."""
    with torch.inference_mode():
        ids = [torch.tensor([row]) for row in dh.encode_texts(pair.tokenizer, texts)]
        return torch.cat([pair.model(row).logits.flatten() for row in ids])


def difference_after_loading(student, folder):
    """The largest difference between a student's logits and those of the same student saved and loaded."""
    student.model.save_pretrained(folder)
    student.tokenizer.save_pretrained(folder)
    if isinstance(student, LanguageModel):
        loaded = dh.load_language_model(folder, device="cpu")
    elif type(student.model).__name__.endswith("ForSequenceClassification"):
        loaded = dh.load_text_classifier(folder, device="cpu")
    else:
        tokenizer = tr.AutoTokenizer.from_pretrained(folder)
        loaded = TextClassifier(type(student.model).from_pretrained(folder).eval(), tokenizer)
    return float((logits_of(loaded) - logits_of(student)).abs().max())


def difference_by_batch(classifier):
    """The largest difference between logits of texts alone and in one batch, on either side of padding."""
    alone, largest = logits_of(classifier).view(len(TEXTS), -1), 0.0
    for side in ("left", "right"):
        tokenizer = copy.deepcopy(classifier.tokenizer)
        tokenizer.padding_side = side
        both = dh.predict_logits(TextClassifier(classifier.model, tokenizer), TEXTS, batch_size=len(TEXTS))
        largest = max(largest, float((both - alone).abs().max()))
    return largest


def small_tokenizer():
    tokenizer, _ = dh.trim_vocabulary(tr.AutoTokenizer.from_pretrained(dh.base_encoder_path()), TEXTS, 200)
    tokenizer.model_max_length = 64
    return tokenizer


def cell(way, teacher):
    try:
        student = way(teacher)
    except (TypeError, ValueError) as error:
        return f"refused: {type(error).__name__}: {str(error)[:60]}…"
    with tempfile.TemporaryDirectory() as folder:
        return f"{difference_after_loading(student, Path(folder)):.0e}"


def main() -> None:
    tr.logging.set_verbosity_error()
    tr.logging.disable_progress_bar()
    tokenizer = small_tokenizer()
    print("|", " | ".join(["architecture", "batch and padding", *WAYS, "own vocabulary, trimmed"]), "|")
    print("|---" * (len(WAYS) + 3), "|", sep="")
    for name in ARCHITECTURES:
        for teacher in filter(None, (tiny_classifier(name, tokenizer), tiny_decoder(name, tokenizer))):
            classifies = isinstance(teacher, TextClassifier)
            whole_texts = type(teacher.model).__name__.endswith("ForSequenceClassification")
            spread = f"{difference_by_batch(teacher):.0e}" if whole_texts else "–"
            ways = [w for w in WAYS if classifies or w not in ("create_student", "narrow_student")]
            cells = [cell(WAYS[way], teacher) if way in ways else "–" for way in WAYS]
            cells.append(cell(trimmed_student, own_classifier(name)) if classifies else "–")
            print("|", " | ".join([type(teacher.model).__name__, spread, *cells]), "|", flush=True)


if __name__ == "__main__":
    sys.exit(main())
