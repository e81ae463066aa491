"""The model card that is saved with a student: what the student is, how it was trained, and its validation figure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from distill_helpers.data.markdown import markdown_code, markdown_text
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.text_models import label_names_of
from distill_helpers.training.validation_metrics import best_row

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, TrainingArguments

__all__ = ["write_model_card"]


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
    name = {"agreement": "agreement with the teacher", "nll": "NLL", "kl": "KL from the teacher"}.get(metric, metric)
    features_alone = " (features alone, the head is untrained)" if config.response_loss_weight == 0 else ""
    result = f"validation {name}{features_alone} | {best[f'eval_{metric}']:.4f}"
    settings = {
        "epochs": args.num_train_epochs,
        "learning rate": args.learning_rate,
        "batch size": args.per_device_train_batch_size * args.gradient_accumulation_steps,
        "seed": args.seed,
    }
    metadata = ModelCardData(
        library_name="transformers", pipeline_tag="text-classification", tags=["knowledge-distillation"]
    )
    card = f"""---
{metadata}
---

# Distilled {markdown_text(model.config.model_type)} classifier

{model.num_parameters():,} parameters, {model.config.num_labels} classes:
{", ".join(map(markdown_text, label_names_of(model)))}.

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
