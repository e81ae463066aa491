"""No figure, target or gradient depends on the rest of the batch, the padding side or the kind of positions."""

import math

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
    PhiConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    RwkvConfig,
    TrainingArguments,
)

from distill_helpers import DistillationConfig
from distill_helpers.llm import (
    CompletionCollator,
    CompletionDataset,
    LLMDistillationTrainer,
    evaluate_language_model,
    last_hidden_states,
    precompute_token_targets,
    teacher_completions,
)
from distill_helpers.llm.generation import continuations
from distill_helpers.llm.padding import padded, right_padded_order
from distill_helpers.models.text_models import LanguageModel

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDER = SIZES | {"intermediate_size": 48, "max_position_embeddings": 64}
GROUPED = WIDER | {"num_key_value_heads": 2, "head_dim": 8}
CONFIGS = {
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),  # learnt positions
    "gpt_neo": (GPTNeoConfig, WIDER | {"num_layers": 2, "attention_types": [[["global", "local"], 1]]}),
    "gpt_neox": (GPTNeoXConfig, WIDER),  # rotary
    "llama": (LlamaConfig, WIDER),
    "qwen3": (Qwen3Config, GROUPED),
    "qwen3_moe": (Qwen3MoeConfig, GROUPED | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}),
    "gemma3": (Gemma3TextConfig, GROUPED | {"sliding_window": 4}),
    "phi": (PhiConfig, WIDER),
    "opt": (
        OPTConfig,
        SIZES | {"ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 16, "dropout": 0.0},
    ),
    "bloom": (BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),  # ALiBi
    "mamba": (MambaConfig, {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),  # recurrent
    "rwkv": (RwkvConfig, {"hidden_size": 32, "num_hidden_layers": 2}),  # recurrent, and blind to the mask
}
TEXTS = ["where is my order", "no sound", "the screen stays black after the update"]


@pytest.fixture(params=CONFIGS)
def architecture(request):
    return request.param


@pytest.fixture
def make_model(make_tokenizer, architecture):
    def make(seed=0, **tokenizer):
        tokenizer = make_tokenizer(**tokenizer)
        kind, sizes = CONFIGS[architecture]
        config = kind(
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **sizes,
        )
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():  # spread the logits, and make positions count
            for name, parameter in model.named_parameters():
                parameter.mul_(4 if any(word in name for word in ("embed", "wte", "wpe")) else 1.5)
        return LanguageModel(model, tokenizer)

    return make


def whole_texts(model):
    return CompletionDataset.from_texts(TEXTS, model.tokenizer)


def alone(model, data):
    """The logits of each text read without any other, at the positions that count."""
    with torch.no_grad():
        return [model.model(torch.tensor([ids])).logits[0, :-1] for ids in data.token_ids]


def trainer_of(student, teacher, data, folder, **arguments):
    settings = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"} | arguments
    return LLMDistillationTrainer(
        student.model,
        DistillationConfig(temperature=1.0, alpha=0.5),
        TrainingArguments(str(folder), **settings),
        train_dataset=data,
        eval_dataset=data,
        teacher=teacher,
    )


@pytest.mark.parametrize("tokenizer", [{"side": "left"}, {"side": "right"}, {"side": "left", "pad": None}], ids=str)
def test_figures_targets_and_losses_are_those_of_each_text_alone(make_model, tokenizer, tmp_path):
    student, teacher = make_model(0, **tokenizer), make_model(1, **tokenizer)
    data = whole_texts(student)
    q, p = (torch.cat(alone(model, data)).double().log_softmax(-1) for model in (student, teacher))
    tokens = torch.tensor([token for ids in data.token_ids for token in ids[1:]])
    surprise = -q.gather(1, tokens[:, None]).mean()
    kl = (p.exp() * (p - q)).sum(1).mean()
    for batch_size in (1, 2, 3):
        figures = evaluate_language_model(student, data, teacher, batch_size=batch_size)
        assert figures["tokens"] == len(tokens)
        assert math.log(figures["perplexity"]) == pytest.approx(float(surprise), rel=1e-5)
        assert figures["forward_kl"] == pytest.approx(float(kl), rel=1e-5, abs=1e-6)
        trainer = trainer_of(student, teacher, data, tmp_path, per_device_eval_batch_size=batch_size)
        expected = float(surprise + kl) / 2  # a mean over tokens, not over batches
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
        store = precompute_token_targets(
            teacher,
            data,
            "dense",
            cache_dir=tmp_path / str(batch_size),
            batch_size=batch_size,
            storage_dtype=torch.float32,
            progress=False,
        )
        kept = torch.cat([store[row].logits for row in range(3)])
        torch.testing.assert_close(kept.log_softmax(1), p.float(), rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_each_text_alone(make_model, tmp_path):
    student, teacher = make_model(0, side="left"), make_model(1, side="left")
    data = whole_texts(student)
    trainer = trainer_of(student, teacher, data, tmp_path)

    def gradients(batches):
        student.model.zero_grad()
        for items in batches:
            inputs = trainer.data_collator(items)
            trainer.compute_loss(student.model.train(), inputs, num_items_in_batch=sum(data.n_tokens)).backward()
        return {name: p.grad.clone() for name, p in student.model.named_parameters() if p.grad is not None}

    items = [data[row] for row in range(3)]
    for module in student.model.modules():  # dropout would differ between the two
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    together, one_by_one = gradients([items]), gradients([[item] for item in items])
    for name, gradient in one_by_one.items():
        scale = max(float(gradient.abs().max()), 1e-3)
        torch.testing.assert_close(together[name] / scale, gradient / scale, rtol=0, atol=1e-4, msg=name)


def test_a_batch_of_ones_own_may_be_padded_on_the_left(make_model):
    model = make_model()
    data = whole_texts(model)
    batch = padded(data.token_ids, model.tokenizer, side="left")
    with torch.no_grad():
        hidden = last_hidden_states(model.model, **batch)
        for row, ids in enumerate(data.token_ids):
            expected = last_hidden_states(model.model, input_ids=torch.tensor([ids]))[0]
            torch.testing.assert_close(hidden[row, -len(ids) :], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_a_model_writes_is_what_it_writes_alone(make_model, side):
    model = make_model(side=side)
    prompts = model.tokenizer(TEXTS)["input_ids"]
    together = continuations(model, prompts, max_new_tokens=5, temperature=0)
    for prompt, written in zip(prompts, together, strict=True):
        ids = list(prompt)
        with torch.no_grad():
            while len(ids) < len(prompt) + 5 and model.tokenizer.eos_token_id not in ids:
                ids.append(int(model.model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert written == ids[len(prompt) :]
    texts = teacher_completions(model, TEXTS, max_new_tokens=5, batch_size=3, progress=False)
    assert texts == teacher_completions(model, TEXTS, max_new_tokens=5, batch_size=1, progress=False)


def test_the_collator_pads_on_the_right_and_needs_no_padding_token(make_tokenizer):
    data = CompletionDataset([[5, 6, 7], [8, 9]], [1, 0], make_tokenizer(side="left", pad=None))
    batch = CompletionCollator(data.tokenizer)([data[0], data[1]])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, data.tokenizer.eos_token_id]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [-100, 9, -100]]


def test_an_end_token_that_also_pads_is_learnt_where_it_ends_a_text(make_tokenizer):
    tokenizer = make_tokenizer(pad=None)
    tokenizer.pad_token = tokenizer.eos_token
    data = CompletionDataset.from_pairs(["where is", "no"], [" my order", " sound"], tokenizer)
    batch = CompletionCollator(tokenizer)([data[0], data[1]])
    assert [(row == tokenizer.eos_token_id).sum().item() for row in batch["labels"]] == [1, 1]


def test_only_a_batch_that_nobody_else_has_placed_is_moved():
    left, right = torch.tensor([[0, 1, 1], [1, 1, 1]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert right_padded_order({"attention_mask": left}).tolist() == [[1, 2, 0], [0, 1, 2]]
    assert right_padded_order({"attention_mask": torch.tensor([[1, 0, 1, 0]])}).tolist() == [[0, 2, 1, 3]]
    for inputs in (
        {"attention_mask": right},
        {},
        {"attention_mask": left, "position_ids": left},
        {"attention_mask": left, "past_key_values": object()},
        {"attention_mask": left[:, None, None]},
    ):
        assert right_padded_order(inputs) is None
