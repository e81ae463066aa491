"""Distilling causal language models: data, loss, trainer, and what a teacher says of each token kept on disk.

    teacher = load_language_model()
    student = cut_layers(teacher, range(0, 30, 3))
    data = CompletionDataset.from_texts(texts, teacher.tokenizer, max_length=128)
    targets = precompute_token_targets(teacher, data, "top_k", cache_dir="targets")
    trainer = LLMDistillationTrainer(
        student.model, DistillationConfig(temperature=1.0, alpha=1.0), TrainingArguments("student"),
        train_dataset=data.with_targets(targets),
    )
    trainer.train()

The loss itself, without the tokens × vocabulary logits, is `distill_helpers.fused_loss`.
"""

from distill_helpers.llm.completion_dataset import CompletionCollator, CompletionDataset
from distill_helpers.llm.cross_tokenizer import universal_logit_distance
from distill_helpers.llm.evaluation import evaluate_language_model
from distill_helpers.llm.on_policy import on_policy_batch
from distill_helpers.llm.sequence_level import teacher_completions
from distill_helpers.llm.token_level import compute_token_level_distillation_loss
from distill_helpers.llm.token_target_store import TokenTargetStore, precompute_token_targets
from distill_helpers.llm.trainer import LLMDistillationTrainer

__all__ = [
    "CompletionCollator",
    "CompletionDataset",
    "LLMDistillationTrainer",
    "TokenTargetStore",
    "compute_token_level_distillation_loss",
    "evaluate_language_model",
    "on_policy_batch",
    "precompute_token_targets",
    "teacher_completions",
    "universal_logit_distance",
]
