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

The loss itself, without the tokens × vocabulary logits, is `distill_helpers.llm.fused_loss`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
