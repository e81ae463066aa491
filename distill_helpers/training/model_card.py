"""The model card that is saved with a student: what the student is, how it was trained, and its validation figure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from distill_helpers.data.markdown import markdown_code, markdown_text
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.parameter_counts import count_parameters
from distill_helpers.models.pooled_encoders import is_pooled
from distill_helpers.models.text_models import label_names_of, outputs_of
from distill_helpers.training.validation_metrics import best_row

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, TrainingArguments

__all__ = ["write_model_card"]

# The names of the figures that are not their own names.
_FIGURES = {
    "agreement": "agreement with the teacher",
    "nll": "NLL",
    "kl": "KL from the teacher",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "bce": "binary cross-entropy",
    "mse": "squared error",
    "spearman": "Spearman correlation",
    "teacher_mse": "squared error from the teacher",
    "teacher_spearman": "Spearman correlation with the teacher",
}


def write_model_card(
    folder: Path,
    model: PreTrainedModel,
    config: DistillationConfig,
    history: pd.DataFrame,
    args: TrainingArguments,
    metric: str,
) -> Path:
    """Write a model card, with the Hub's metadata, into the folder of a saved student. Returns the path of the card.

    `metric` is the key of `validation_metrics.SELECTIONS` that has chosen the epoch. The card shows its figure.

    The names of the classes may come from anywhere. The card shows them as they are written, and never as markup.
    """
    from huggingface_hub import ModelCard, ModelCardData

    best = history.iloc[best_row(history, metric)]
    name = _FIGURES.get(metric, metric)
    features_alone = " (features alone, the head is untrained)" if config.response_loss_weight == 0 else ""
    result = f"validation {name}{features_alone} | {best[f'eval_{metric}']:.4f}"
    settings = {
        "epochs": args.num_train_epochs,
        "learning rate": args.learning_rate,
        "batch size": args.per_device_train_batch_size * args.gradient_accumulation_steps,
        "seed": args.seed,
    }
    pipeline = "image-classification" if model.main_input_name == "pixel_values" else "text-classification"
    if config.task == "token_classification":
        pipeline = "token-classification"
    kind, outputs = "classifier", ", ".join(map(markdown_text, label_names_of(model)))
    outputs = f"{outputs_of(model)}:\n{outputs}"
    if is_pooled(model):
        pipeline, kind = "sentence-similarity", "sentence encoder"
        outputs = f"embeddings of width {model.config.num_labels}"
    taught = config.uses_teacher_logits or config.uses_features
    tags = ["knowledge-distillation"] if taught else None
    metadata = ModelCardData(library_name="transformers", pipeline_tag=pipeline, tags=tags)
    card = f"""---
{metadata}
---

# {"Distilled" if taught else "Fine-tuned"} {markdown_text(model.config.model_type)} {kind}

{count_parameters(model):,} parameters, {outputs}.

Trained with `distill_helpers.train_student_with_distillation` on the objective below.

| | |
|---|---|
| objective | {markdown_code(json.dumps(asdict(config)))} |
"""
    card += "".join(f"| {name} | {value} |\n" for name, value in settings.items())
    card += f"""| best epoch | {best["epoch"]:g} of {args.num_train_epochs:g} |
| {result} |

The validation set chose the epoch, so this figure flatters the model; measure it on a test set that chose nothing.
"""
    path = folder / "README.md"
    ModelCard(card).save(path)
    return path
