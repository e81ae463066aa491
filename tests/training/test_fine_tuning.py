"""`fine_tune_teacher`: the same training as by hand, for each task, and what it refuses before it begins."""

import copy
import inspect

import pytest
import torch
from tiny_images import NEW_ENOUGH, digits, tiny_vit
from tiny_models import tiny_config
from training_runs import flat
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, BertModel

from distill_helpers.data.labelled_texts import LabelledTexts
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.prediction_tasks import prediction_task
from distill_helpers.models.text_models import TextClassifier, label_options
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.fine_tuning import fine_tune_teacher
from distill_helpers.training.image_dataset import ImageDistillationDataset
from distill_helpers.training.train_student import train_student_with_distillation

TEXTS = ["my screen stays black", "no sound", "where is my parcel", "thank you"]
PAIRS = [(text, "is it broken") for text in TEXTS]
WORDS = [text.split() for text in TEXTS]
RUN = {"max_length": 16, "n_epochs": 1, "batch_size": 2, "device": "cpu", "progress": False}


@pytest.fixture
def encoder(small_tokenizer, tmp_path):
    """The folder of a pretrained encoder without a head."""
    torch.manual_seed(0)
    BertModel(tiny_config("bert", 400, 1)).save_pretrained(tmp_path / "encoder")
    small_tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def labelled(names=("mac", "windows"), labels=(0, 1, 0, 1)):
    return LabelledTexts(TEXTS, list(labels), tuple(names))


@pytest.mark.slow
def test_it_is_the_training_on_hard_labels_that_one_would_write(make_classifier, help_desk, tmp_path):
    data, start = help_desk.train.subset(range(0, 2500, 200)), make_classifier()
    before = copy.deepcopy(start.model.state_dict())
    result = fine_tune_teacher(start, data, data, tmp_path / "a", learning_rate=1e-3, seed=3, **RUN)
    assert all(torch.equal(value, before[name]) for name, value in start.model.state_dict().items())
    own = DistillationDataset(data.texts, data.labels, None, start.tokenizer, 16)
    by_hand = train_student_with_distillation(
        start,
        own,
        own,
        DistillationConfig(alpha=0.0),
        n_epochs=1,
        learning_rate=1e-3,
        batch_size=2,
        seed=3,
        output_dir=tmp_path / "b",
        device="cpu",
        progress=False,
    )
    assert torch.equal(flat(result.model), flat(by_hand.model))
    assert list(result.history.columns) == ["epoch", "loss", "task_loss", "eval_loss", "eval_accuracy", "eval_nll"]
    assert result.classifier.label_names == data.label_names
    assert (tmp_path / "a" / "model.safetensors").is_file()


def test_the_defaults_are_those_of_a_pretrained_model():
    defaults = {name: p.default for name, p in inspect.signature(fine_tune_teacher).parameters.items()}
    assert (defaults["n_epochs"], defaults["learning_rate"], defaults["batch_size"]) == (3, 5e-5, 16)
    others = {name: p.default for name, p in inspect.signature(train_student_with_distillation).parameters.items()}
    shared = set(defaults) & set(others) - {"n_epochs", "learning_rate", "batch_size", "output_dir"}
    assert len(shared) == 11
    assert {name: defaults[name] for name in shared} == {name: others[name] for name in shared}


@pytest.mark.parametrize(
    ("task", "inputs", "labels", "names", "figure"),
    [
        ("single_label", PAIRS, [0, 1, 0, 1], ("mac", "windows"), "eval_accuracy"),
        ("multi_label", TEXTS, [[0, 1], [1, 0], [1, 1], [0, 0]], ("urgent", "polite"), "eval_micro_f1"),
        ("regression", PAIRS, [0.1, 0.5, 0.9, 0.3], ("relevance",), "eval_mse"),
        (
            "token_classification",
            WORDS,
            [[0] * (len(words) - 1) + [1] for words in WORDS],
            ("O", "END"),
            "eval_accuracy",
        ),
    ],
)
def test_an_encoder_gets_a_head_for_each_task(encoder, tmp_path, task, inputs, labels, names, figure):
    data = (inputs, labels)
    result = fine_tune_teacher(encoder, data, data, tmp_path / "out", label_names=names, task=task, seed=1, **RUN)
    assert prediction_task(result.model) == task
    assert result.classifier.label_names == names
    assert len(result.classifier.predict(inputs)) == (12 if task == "token_classification" else 4)
    assert figure in result.history
    # The folder says the task by itself.
    kind = AutoModelForTokenClassification if task == "token_classification" else AutoModelForSequenceClassification
    assert prediction_task(kind.from_pretrained(tmp_path / "out")) == task


@pytest.mark.slow
def test_the_head_of_a_folder_is_new_and_comes_from_the_seed(encoder, tmp_path):
    def first_epoch(folder, seed):
        return fine_tune_teacher(encoder, labelled(), labelled(), tmp_path / folder, seed=seed, **RUN).history

    assert first_epoch("a", 0).equals(first_epoch("b", 0))
    assert not first_epoch("a2", 1).equals(first_epoch("b2", 0))


def classifier(tokenizer, task="single_label", names=("mac", "windows")):
    config = tiny_config("bert", 400, 1)
    config.update(label_options(names, task))
    return TextClassifier(AutoModelForSequenceClassification.from_config(config).eval(), tokenizer)


def test_the_task_of_a_classifier_is_its_own(small_tokenizer, tmp_path):
    scores = classifier(small_tokenizer, "regression", ("relevance",))
    result = fine_tune_teacher(scores, (TEXTS, [0.1, 0.5, 0.9, 0.3]), (TEXTS, [1, 2, 3, 4]), tmp_path / "out", **RUN)
    assert "eval_mse" in result.history
    with pytest.raises(ValueError, match=r"the model's task is 'regression', and task='single_label' was passed"):
        fine_tune_teacher(scores, (TEXTS, [0, 1, 0, 1]), (TEXTS, [0, 1, 0, 1]), tmp_path, task="single_label", **RUN)


def test_what_does_not_fit_is_refused_before_anything_is_written(encoder, small_tokenizer, tmp_path):
    good, start, out = labelled(), classifier(small_tokenizer), tmp_path / "out"
    for model, train, validation, options, message in (
        (
            encoder,
            (TEXTS, [0, 1, 0, 1]),
            good.subset([0]),
            {"label_names": ("windows", "mac")},
            "validation has the names",
        ),
        (encoder, good, labelled(("windows", "mac")), {}, r"validation has the names .* and train"),
        (encoder, (TEXTS, [0, 1, 0, 1]), (TEXTS, [0, 1, 0, 1]), {}, "gets a new head, and nothing names its classes"),
        (encoder, (TEXTS, [0, 1, 0, 1]), (TEXTS, [0, 1, 0, 1]), {"label_names": "ab"}, "must be a list of names"),
        (
            start,
            labelled(("windows", "mac")),
            labelled(("windows", "mac")),
            {},
            r"the model's head has the names \['mac'",
        ),
        (encoder, good, good, {"task": "ranking"}, "ranking"),
        (encoder, (TEXTS, [0, 1, 0, 2]), good, {}, r"train_dataset: label 2"),
        (encoder, good, (TEXTS, [[1, 0]] * 4), {}, "validation: row 0"),
        (encoder, good, (TEXTS, None), {}, "validation has no labels"),
        (encoder, good, ([*TEXTS[:3], ""], [0, 1, 0, 1]), {}, r"validation: row 3: .*empty"),
        (encoder, good, good, {"n_epochs": 0}, "n_epochs"),
    ):
        with pytest.raises(ValueError, match=message):
            fine_tune_teacher(model, train, validation, out, **RUN | options)
    with pytest.raises(TypeError, match=r"train must be a LabelledTexts or a tuple \(inputs, labels\), got list"):
        fine_tune_teacher(encoder, TEXTS, good, out, **RUN)
    (encoder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="is an adapter with a head of its own"):
        fine_tune_teacher(encoder, good, good, out, **RUN)
    assert not out.exists()


@NEW_ENOUGH
def test_an_image_classifier_goes_on_learning_from_images(tmp_path):
    images, labels = digits(12)
    run = {name: value for name, value in RUN.items() if name != "max_length"}
    start = tiny_vit()
    result = fine_tune_teacher(start, (images, labels), (images, labels), tmp_path / "a", learning_rate=1e-3, **run)
    data = ImageDistillationDataset(images, labels, None, start)
    by_hand = train_student_with_distillation(
        start, data, data, DistillationConfig(alpha=0.0), learning_rate=1e-3, output_dir=tmp_path / "b", **run
    )
    assert torch.equal(flat(result.model), flat(by_hand.model))
    assert not torch.equal(flat(result.model), flat(start.model))
    assert "eval_accuracy" in result.history
    with pytest.raises(ValueError, match="images have no tokens that max_length=16 could cut"):
        fine_tune_teacher(start, (images, labels), (images, labels), tmp_path / "c", **RUN)
    with pytest.raises(ValueError, match="label 10, but the student has 10 classes"):
        fine_tune_teacher(start, (images, [0, 1, 10, *labels[3:]]), (images, labels), tmp_path / "c", **run)
    assert not (tmp_path / "c").exists()
