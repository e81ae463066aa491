"""Causal language models: a student learns what its teacher says of every token.

The teacher reads each sequence once, its targets are kept on disk, and a student with a third of its layers learns from
them:

    import distill_helpers as dh
    from distill_helpers import llm
    from transformers import TrainingArguments

    teacher = dh.load_language_model()  # 30 layers
    student = dh.cut_layers(teacher, range(0, 30, 3))
    data = llm.CompletionDataset.from_texts(texts, teacher.tokenizer, max_length=128)
    targets = llm.precompute_token_targets(teacher, data, "top_k", cache_dir="targets")
    trainer = llm.LLMDistillationTrainer(
        student.model,
        dh.DistillationConfig(temperature=1.0, alpha=1.0),
        TrainingArguments("student", num_train_epochs=1, report_to="none"),
        train_dataset=data.with_targets(targets),
    )
    trainer.train()
    llm.evaluate_language_model(student, data, teacher)

What you need, by task:

    prompts and completions as data      `CompletionDataset`, `CompletionCollator`
    Hugging Face data sets               `CompletionDataset.from_hf`; `CompletionStream` reads them as they are needed
    less padding                         `CompletionCollator(tokenizer, packed_length=…)`
    what the teacher says, on disk       `precompute_token_targets`: top-k, sampled, hidden states or all logits
    train, with targets or a teacher     `LLMDistillationTrainer`; its `on_policy_fraction` lets the student write
    a teacher that scores what is written `LLMDistillationTrainer(target_kind="written")`, `WrittenTargets`
    the teacher writes, as training data `teacher_completions`; `distill_helpers.api` for a teacher behind an API
    new messages for a classifier        `write_messages`, `filter_messages`
    judge the student                    `evaluate_language_model`: perplexity, divergence, agreement
    another tokenizer than the teacher's `universal_logit_distance`, or the teacher's text
    write a loop of your own             `fused_distillation_loss`, `output_head`, `last_hidden_states`,
                                         `target_divergence`, `compute_token_level_distillation_loss`
    add a kind of targets                `TokenTargets` and `KINDS`

The logits of a whole batch never exist: `fused_distillation_loss` computes them for a few tokens at a time and turns
them into their gradient.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
