"""Packing: a sequence that shares a row reads nothing but itself, and a packed batch has the loss of a padded one."""

from itertools import chain

import pytest
import torch
from training_runs import arguments
from transformers import AutoConfig, AutoModelForCausalLM

from distill_helpers import DistillationConfig
from distill_helpers.llm import CompletionCollator, CompletionDataset, LLMDistillationTrainer, precompute_token_targets
from distill_helpers.llm.completion_batches import n_sequences, without_last_sequences
from distill_helpers.llm.output_heads import last_hidden_states, logits_of, output_head
from distill_helpers.llm.packing import check_packing, rows_of_at_most
from distill_helpers.llm.token_level import completion_labels
from distill_helpers.losses.distillation_loss import count_items

WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
PACKED = {
    "gpt2": GPT,
    "llama": SIZES,
    "qwen3": SIZES | {"head_dim": 8},
    "gemma3_text": SIZES | {"head_dim": 8} | WINDOW,
    "mistral": SIZES | {"sliding_window": 4},
    "qwen3_moe": SIZES | {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
ALONE = {
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "opt": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64, "max_position_embeddings": 64},
    "lfm2": SIZES | {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": SIZES | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "num_experts": 4},
}


def built(kind, settings, *, attention=None, seed=0):
    tokens = {"vocab_size": 97, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **tokens, **settings)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def drawn_sequences(lengths=(11, 3, 9, 1, 6)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 97, (length,), generator=generator).tolist() for length in lengths]


def items_of(sequences):
    return [{"input_ids": ids, "labels": [-100, *ids[1:]]} for ids in sequences]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", PACKED)
def test_the_logits_of_a_packed_sequence_are_those_alone(kind, attention, language_tokenizer):
    model, sequences = built(kind, PACKED[kind], attention=attention), drawn_sequences()
    head = output_head(model)
    batch = CompletionCollator(language_tokenizer, packed_length=16)(items_of(sequences))
    assert batch["input_ids"].shape == (2, 15)
    with torch.no_grad():
        inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
        packed = logits_of(head, last_hidden_states(model, **inputs).flatten(0, 1))
        for number, ids in enumerate(sequences):
            own = packed[batch["sequences"].flatten() == number]
            alone = model(input_ids=torch.tensor([ids])).logits[0]
            torch.testing.assert_close(own, alone, atol=1e-5, rtol=0)
    check_packing(model)


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_would_read_across_the_borders_is_refused(kind, dtype):
    model = built(kind, ALONE[kind]).to(dtype)
    with pytest.raises(ValueError, match=rf"the teacher \({type(model).__name__}, .*leave packed_length out"):
        check_packing(model, "teacher")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_half_precision_are_packed(dtype):
    for kind, settings in PACKED.items():
        check_packing(built(kind, settings).to(dtype))


def test_a_model_that_counts_its_positions_through_is_refused(monkeypatch):
    """No sequence reads another, but the positions do not begin anew."""
    model = built("gpt2", GPT)
    positions, embed = model.transformer.wpe, model.transformer.wpe.forward
    monkeypatch.setattr(positions, "forward", lambda ids: embed(torch.arange(ids.shape[1])[None]))
    with pytest.raises(ValueError, match="away from those that it has alone"):
        check_packing(model)


def test_the_check_leaves_the_model_as_it_is():
    model = built("llama", SIZES).train()
    state = torch.random.get_rng_state()
    check_packing(model)
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())


def test_rows_are_filled_and_every_sequence_has_its_place():
    lengths = [5, 30, 3, 8, 2, 16, 1]
    rows = rows_of_at_most(lengths, 16)
    assert sorted(chain(*rows)) == list(range(7))
    assert [sum(lengths[i] for i in row) for row in rows] == [30, 16, 16, 3]
    assert all(row == sorted(row) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("cached", [True, False])
def test_the_training_of_packed_batches_is_that_of_padded_ones(
    make_language_model, completions, tmp_path, alpha, cached
):
    teacher = make_language_model(1)
    data = completions
    if cached:
        store = precompute_token_targets(
            teacher, completions, "top_k", cache_dir=tmp_path, k=399, storage_dtype=torch.float32, progress=False
        )
        data = completions.with_targets(store)
    weights, losses = [], []
    for packed_length in (None, 40):
        student = make_language_model(0).model
        trainer = LLMDistillationTrainer(
            student,
            DistillationConfig(temperature=1.0, alpha=alpha),
            arguments(tmp_path, per_device_train_batch_size=6, logging_steps=1, max_steps=3),
            train_dataset=data,
            eval_dataset=data,
            teacher=None if cached else teacher,
            data_collator=CompletionCollator(data.tokenizer, packed_length=packed_length),
        )
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in student.parameters()]))
        log = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        losses.append([*log, trainer.evaluate()["eval_loss"]])
    torch.testing.assert_close(weights[1], weights[0], atol=1e-5, rtol=0)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_packed_batch_has_the_items_of_a_padded_one(completions, language_tokenizer):
    items = [completions[row] for row in range(12)]
    padded = CompletionCollator(language_tokenizer)(items)
    packed = CompletionCollator(language_tokenizer, packed_length=40)(items)
    assert len(packed["input_ids"]) < len(padded["input_ids"])
    assert count_items(packed["labels"], causal=True) == count_items(padded["labels"], causal=True)
    assert sorted(completion_labels(packed["labels"])) == sorted(completion_labels(padded["labels"]))
    assert n_sequences(packed) == n_sequences(padded) == 12


@pytest.mark.parametrize("packed_length", [None, 40])
def test_the_last_sequences_are_left_out_with_their_targets(make_language_model, completions, tmp_path, packed_length):
    store = precompute_token_targets(
        make_language_model(1), completions, "hidden", cache_dir=tmp_path, storage_dtype=torch.float32, progress=False
    )
    data = completions.with_targets(store)
    collate = CompletionCollator(data.tokenizer, packed_length=packed_length)
    batch = collate([data[row] for row in range(12)])
    fewer = without_last_sequences(batch, 5)
    kept = sum(data.n_tokens[:7])
    assert len(completion_labels(fewer["labels"])) == len(fewer["teacher_targets"]) == kept
    rows = {tuple(row) for row in fewer["teacher_targets"].hidden.tolist()}
    assert rows == {tuple(row) for number in range(7) for row in store[number].hidden.tolist()}
    assert len(without_last_sequences(batch, 12)["teacher_targets"]) == 0
    assert without_last_sequences(batch, 0) is batch


def test_the_trainer_refuses_what_cannot_be_packed(language_tokenizer, make_language_model, completions, tmp_path):
    settings = {"vocab_size": len(language_tokenizer)}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("bloom", **settings, **ALONE["bloom"]))
    options = {
        "train_dataset": completions,
        "data_collator": CompletionCollator(language_tokenizer, packed_length=40),
    }
    with pytest.raises(ValueError, match=r"the student \(BloomForCausalLM"):
        LLMDistillationTrainer(model, DistillationConfig(alpha=0.0), arguments(tmp_path), **options)
    with pytest.raises(ValueError, match="rows of their own; leave packed_length out"):
        LLMDistillationTrainer(
            make_language_model(0).model,
            DistillationConfig(alpha=1.0),
            arguments(tmp_path),
            teacher=make_language_model(1),
            on_policy_fraction=0.5,
            **options,
        )
    with pytest.raises(ValueError, match="packed_length must be at least 1"):
        CompletionCollator(language_tokenizer, packed_length=0)


def test_a_sequence_that_is_longer_than_a_row_gets_a_row(language_tokenizer):
    data = CompletionDataset([[5] * 9, [6] * 2, [7] * 2], [1, 1, 1], language_tokenizer)
    batch = CompletionCollator(language_tokenizer, packed_length=4)(list(data))
    assert batch["sequences"].tolist() == [[0] * 9, [1, 1, 2, 2] + [-1] * 5]
    assert batch["position_ids"].tolist() == [list(range(9)), [0, 1, 0, 1] + [0] * 5]
