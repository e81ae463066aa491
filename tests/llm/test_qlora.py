"""A QLoRA student: its base in four bits by bitsandbytes, on a CPU as on a GPU; the adapter alone is trained.

Skipped where the extra `qlora` is not installed, as in the course's environment.
"""

import pytest
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainingArguments

from distill_helpers import DistillationConfig
from distill_helpers.llm import CompletionCollator, LLMDistillationTrainer, compute_token_level_distillation_loss

Params4bit = pytest.importorskip("bitsandbytes").nn.Params4bit


@pytest.fixture
def student(make_language_model, tmp_path):
    make_language_model(0, hidden_size=64).model.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base",
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        ),
        device_map="cpu",
    )
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    return get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))


def test_the_adapter_learns_over_a_base_in_four_bits(student, make_language_model, completions, tmp_path):
    quantised = [p for p in student.parameters() if isinstance(p, Params4bit)]
    assert len(quantised) == 2 * 7
    assert all(p.dtype == torch.uint8 and not p.requires_grad for p in quantised)
    adapter = {n: p.detach().clone() for n, p in student.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in adapter)
    teacher = make_language_model(1)
    trainer = LLMDistillationTrainer(
        student,
        DistillationConfig(temperature=1.0, alpha=1.0),
        TrainingArguments(
            str(tmp_path),
            max_steps=30,
            logging_steps=5,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
        ),
        train_dataset=completions,
        eval_dataset=completions,
        teacher=teacher,
    )
    # No evaluation before: on some CPUs bitsandbytes packs the base for it, and no gradient passes it any more.
    bytes_before = [p.data.clone() for p in quantised]
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.95 * losses[0]
    assert all(torch.equal(p.data, values) for p, values in zip(quantised, bytes_before, strict=True))
    now = dict(student.named_parameters())
    assert any(not torch.equal(now[name], values) for name, values in adapter.items())


def test_its_loss_is_that_of_its_logits(student, make_language_model, completions, tmp_path):
    teacher = make_language_model(1)
    trainer = LLMDistillationTrainer(
        student,
        DistillationConfig(temperature=1.0, alpha=1.0),
        TrainingArguments(str(tmp_path), report_to="none", per_device_eval_batch_size=12, use_cpu=True),
        train_dataset=completions,
        eval_dataset=completions,
        teacher=teacher,
    )
    batch = CompletionCollator(completions.tokenizer)([completions[row] for row in range(12)])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = compute_token_level_distillation_loss(
            student(**inputs).logits, teacher.model(**inputs).logits, batch["labels"]
        )["total_loss"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(
        float(expected), rel=0.01
    )  # bitsandbytes computes in bf16 on some CPUs
