"""The README's code runs as it stands there: the API's against a server, the language models' on small ones."""

import os
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def block_with(words):
    (block,) = (block for block in BLOCKS if words in block)
    return block


def run(block, **names):
    """Run a block as a user would, who has imported the package before and has these names."""
    names = {"dh": __import__("distill_helpers"), **names}
    exec(compile(block, "README.md", "exec"), names)
    return names


@pytest.fixture
def saved_language_model(small_tokenizer, tmp_path):
    config = LlamaConfig(
        vocab_size=len(small_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        pad_token_id=small_tokenizer.pad_token_id,
        bos_token_id=small_tokenizer.cls_token_id,
        eos_token_id=small_tokenizer.sep_token_id,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "my-language-model")
    small_tokenizer.save_pretrained(tmp_path / "my-language-model")
    return tmp_path / "my-language-model"


def test_the_collector_asks_the_provider_and_keeps_its_answers(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    texts = ["my screen stays black", "the window has no title"]
    names = run(block_with("APIDistillationDataCollector("), texts=texts)
    assert [example.input_text for example in names["collection"].examples] == texts
    assert len(Path("answers.jsonl").read_text().splitlines()) == 2
    assert names["collection"].cost_usd > 0


def test_a_language_model_is_distilled(saved_language_model, help_desk, monkeypatch):
    monkeypatch.chdir(saved_language_model.parent)
    texts = help_desk.train.texts[:12]
    names = run(block_with("LLMDistillationTrainer("), prompts=[text[:30] for text in texts], completions=texts)
    assert len(names["student"].model.model.layers) == 2
    assert names["trainer"].state.global_step == 2  # 12 pairs, batches of 8
    assert 0 < names["trainer"].state.log_history[-1]["train_loss"] < 20
    assert "388" in block_with("LLMDistillationTrainer(")
    assert names["targets"][0].bytes_per_token == 388
    assert os.path.isdir(".targets")


def test_the_fused_loss_takes_what_models_give(saved_language_model):
    model = AutoModelForCausalLM.from_pretrained(saved_language_model)
    hidden = torch.randn(2, 5, 16, requires_grad=True)
    names = run(
        block_with("fused_distillation_loss("),
        student=model,
        teacher=model,
        student_hidden=hidden,
        teacher_hidden=torch.randn(2, 5, 16),
        mask=torch.ones(2, 5, dtype=torch.bool),
    )
    names["loss"].backward()
    assert hidden.grad.abs().sum() > 0
