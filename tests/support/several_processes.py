"""Trainings that several processes make together, and one process alone: `torchrun several_processes.py FOLDER`.

The batches of all processes together hold 16 messages, however many processes there are.
"""

import json
import os
import sys
from pathlib import Path

import torch
from training_runs import flat, train
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

import distill_helpers as dh
from distill_helpers.llm import (
    CompletionCollator,
    CompletionDataset,
    LLMDistillationTrainer,
    precompute_token_targets,
)

WORLD = int(os.environ.get("WORLD_SIZE", "1"))


def classifier(tokenizer, names, seed, width=32, n_layers=2):
    model = dh.create_transformer(
        names, len(tokenizer), hidden_size=width, n_layers=n_layers, max_length=32, dropout=0.0, seed=seed
    )
    return dh.TextClassifier(model, tokenizer)


def of_a_classifier(folder, *, n_texts, resume=True, alpha=0.6, **choices):
    """A student of the help desk, with labels for two of three messages, and with a teacher where features are on."""
    desk = dh.load_help_desk()
    tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
    tokenizer.model_max_length = 32
    teacher = classifier(tokenizer, desk.label_names, 1, width=48, n_layers=4)
    sets = []
    for part, n in ((desk.train, n_texts), (desk.validation, 21)):
        rows = part.subset(range(0, n * 15, 15))
        labels = [label if row % 3 or part is desk.validation else -100 for row, label in enumerate(rows.labels)]
        logits = torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) * 3
        sets.append(dh.DistillationDataset(rows.texts, labels, logits, tokenizer))
    config = dh.DistillationConfig(alpha=alpha, **choices)
    result = train(
        classifier(tokenizer, desk.label_names, 0),
        sets,
        folder / "run",
        config,
        n_epochs=3,
        batch_size=16 // WORLD,
        resume=resume,
        teacher=teacher if config.uses_features else None,
    )
    return flat(result.model), result.history.to_dict("records")


def of_a_language_model(folder, *, tie=True, n_texts=48, n_eval=48, cached=False, packed_length=None):
    """A small Llama that learns from a live teacher, or from the teacher's targets on disk."""
    tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
    texts = dh.load_help_desk().train.subset(range(0, 480, 10)).texts
    sets = [
        CompletionDataset.from_pairs(
            [text[:20] for text in part], [text[: 30 + i] for i, text in enumerate(part)], tokenizer
        )
        for part in (texts[:n_texts], texts[:n_eval])
    ]

    def model(seed):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=tie,
        )
        return LlamaForCausalLM(config)

    args = TrainingArguments(
        output_dir=str(folder / "llm"),
        num_train_epochs=2,
        per_device_eval_batch_size=16 // WORLD,
        per_device_train_batch_size=16 // WORLD,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    student, teacher = model(0), dh.LanguageModel(model(1), tokenizer)
    if cached:
        options = {"k": 50, "temperature": 2.0, "device": "cpu", "progress": False}
        rank = os.environ.get("RANK", "0")
        sets = [
            data.with_targets(precompute_token_targets(teacher, data, cache_dir=folder / f"targets-{rank}", **options))
            for data in sets
        ]
    trainer = LLMDistillationTrainer(
        student,
        dh.DistillationConfig(temperature=2.0, alpha=0.5),
        args,
        train_dataset=sets[0],
        eval_dataset=sets[1],
        teacher=None if cached else teacher,
        data_collator=CompletionCollator(tokenizer, packed_length=packed_length),
    )
    trainer.train()
    log = [
        {key: row[key] for key in ("loss", "soft_target_loss", "task_loss")} for row in trainer.state.log_history[:-1]
    ]
    return flat(student), [*log, {"eval_loss": trainer.evaluate()["eval_loss"]}]


RUNS = {
    "response": lambda folder: of_a_classifier(folder, n_texts=48),
    "a last batch that is not full": lambda folder: of_a_classifier(folder, n_texts=51),
    "a last batch for one process alone": lambda folder: of_a_classifier(folder, n_texts=36),
    "afresh": lambda folder: of_a_classifier(folder, n_texts=48, resume=False),
    "features": lambda folder: of_a_classifier(
        folder, n_texts=51, intermediate_layers=True, relations=("keys",), relation_heads=2
    ),
    "features alone": lambda folder: of_a_classifier(
        folder, n_texts=48, intermediate_layers=True, response_loss_weight=0
    ),
    "untied head": lambda folder: of_a_language_model(folder, tie=False),
    "tied head": lambda folder: of_a_language_model(folder, tie=True),
    "sequences that do not fill the last batch": lambda folder: of_a_language_model(folder, n_texts=43, n_eval=21),
    "sequences for one process alone": lambda folder: of_a_language_model(folder, n_texts=36, n_eval=33, cached=True),
    "packed sequences": lambda folder: of_a_language_model(
        folder, n_texts=43, n_eval=21, cached=True, packed_length=40
    ),
}


if __name__ == "__main__":
    rank = os.environ.get("RANK", "0")
    for name, run in RUNS.items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        weights, log = run(folder)
        torch.save(weights, folder / f"weights-{rank}.pt")
        (folder / f"log-{rank}.json").write_text(json.dumps(log), encoding="utf-8")
