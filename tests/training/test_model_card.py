"""The card that is saved with a student: what the Hub reads of it, and that its figures are those of the best epoch."""

import json

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from transformers import TrainingArguments

from distill_helpers import DistillationConfig
from distill_helpers.training.model_card import write_model_card

CONFIG = DistillationConfig(
    temperature=3.0, alpha=0.25, divergence="generalized_jsd", divergence_options={"beta": 0.125}
)

HARD = DistillationConfig(alpha=0.0)


@pytest.fixture
def history():
    return pd.DataFrame(
        {
            "epoch": [1.0, 2.0, 3.0],
            "loss": [3.0, 2.0, 1.0],
            "eval_accuracy": [0.5, 0.71234, 0.6],
            "eval_nll": [0.9, 0.8, 0.7],
        },
    )


@pytest.fixture
def card_path(tmp_path, make_classifier, history):
    args = TrainingArguments(
        output_dir=str(tmp_path / "checkpoints"),
        num_train_epochs=3,
        learning_rate=2e-4,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=4,
        seed=17,
        report_to="none",
        use_cpu=True,
    )
    return write_model_card(tmp_path, make_classifier().model, CONFIG, history, args, "accuracy")


def row(card: str, name: str) -> str:
    """The second column of a line of the card's table."""
    (line,) = [line for line in card.splitlines() if line.startswith(f"| {name} |")]
    return line.split("|")[2].strip()


def test_it_is_the_readme_of_the_folder(card_path, tmp_path):
    assert card_path == tmp_path / "README.md"
    assert card_path.is_file()


def test_the_hub_can_read_its_header(card_path):
    data = ModelCard(card_path.read_text(encoding="utf-8")).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.tags == ["knowledge-distillation"]


def test_the_figures_are_those_of_the_best_epoch_not_the_last(card_path):
    card = card_path.read_text(encoding="utf-8")
    assert row(card, "best epoch") == "2 of 3"
    assert row(card, "validation accuracy") == "0.7123"


@pytest.mark.parametrize(("nll", "best"), [([0.9, 0.7, 0.8], 2), ([0.9, 0.8, 0.7], 3), ([0.9, 0.8, 0.8], 2)])
def test_a_tie_goes_to_the_lower_nll_and_then_to_the_earlier_epoch(
    card_path, tmp_path, make_classifier, history, nll, best
):
    history["eval_accuracy"], history["eval_nll"] = [0.5, 0.7, 0.7], nll
    args = TrainingArguments(output_dir=str(tmp_path / "c"), num_train_epochs=3, report_to="none", use_cpu=True)
    path = write_model_card(tmp_path, make_classifier().model, CONFIG, history, args, "accuracy")
    assert row(path.read_text(encoding="utf-8"), "best epoch") == f"{best} of 3"


def test_a_model_that_had_no_teacher_is_not_called_distilled(tmp_path, make_classifier, history):
    args = TrainingArguments(str(tmp_path / "checkpoints"))
    for config, title in ((CONFIG, "# Distilled bert classifier"), (HARD, "# Fine-tuned bert classifier")):
        card = write_model_card(tmp_path, make_classifier().model, config, history, args, "accuracy").read_text()
        assert title in card
        assert ("knowledge-distillation" in card) == (config is CONFIG)


def test_the_settings_are_those_of_the_run(card_path):
    card = card_path.read_text(encoding="utf-8")
    assert row(card, "epochs") == "3"
    assert float(row(card, "learning rate")) == 2e-4
    assert row(card, "batch size") == "32"  # what a step sees: 8 messages, 4 times
    assert row(card, "seed") == "17"
    assert DistillationConfig(**json.loads(row(card, "objective").strip("`"))) == CONFIG


def test_size_and_classes_are_named(card_path, make_classifier, help_desk):
    card = card_path.read_text(encoding="utf-8")
    model = make_classifier().model
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters, 5 classes" in card
    assert f"{', '.join(help_desk.label_names)}." in card
    assert "# Distilled bert classifier" in card
