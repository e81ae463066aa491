"""Several labels, scores and pairs from the data set to the finished student; and what does not fit is refused."""

import copy
import json
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from training_runs import arguments, train
from transformers import BertForSequenceClassification, EvalPrediction

from distill_helpers import (
    DistillationCollator,
    DistillationConfig,
    DistillationDataset,
    DistillationLoss,
    DistillationTrainer,
    TextClassifier,
    create_student,
    create_transformer,
    precompute_teacher_logits,
    prediction_task,
)
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.evaluation.task_metrics import multi_label_metrics, regression_metrics
from distill_helpers.losses.binary_divergences import mean_binary_divergence
from distill_helpers.models.text_models import predict_logits
from distill_helpers.training.constant_answers import warn_if_nothing_was_learned
from distill_helpers.training.task_validation import TASK_VALIDATION, multi_label_validation, regression_validation
from distill_helpers.training.validation_metrics import selection_metric

NAMES = {"single_label": ("a", "b", "c"), "multi_label": ("a", "b", "c"), "regression": ("score",)}
PROBLEMS = {"multi_label": "multi_label_classification", "regression": "regression"}
TASKS = ("multi_label", "regression")


@pytest.fixture
def make_model(small_tokenizer):
    def make(task, seed=0, names=None):
        model = create_transformer(
            names or NAMES[task], len(small_tokenizer), hidden_size=16, n_layers=1, task=task, seed=seed, dropout=0.0
        )
        model.config.pad_token_id = small_tokenizer.pad_token_id
        with torch.no_grad():
            for parameter in model.parameters():  # so large that texts differ
                if parameter.dim() == 2:
                    parameter.mul_(8)
        return TextClassifier(model, small_tokenizer)

    return make


@pytest.fixture
def pairs(help_desk):
    long = [words for text in help_desk.train.texts if len(words := text.split()) >= 10]
    return [(" ".join(words[:4]), " ".join(words[4:10])) for words in long[:40]]


def labels_for(task, n):
    generator = np.random.default_rng(0)
    if task == "single_label":
        return generator.integers(0, 3, n).tolist()
    return generator.integers(0, 2, (n, 3)).tolist() if task == "multi_label" else generator.normal(size=n).tolist()


@pytest.fixture
def make_data(make_model, pairs):
    """Training and validation sets of pairs, with labels and the logits of a teacher."""

    def make(task, labels=None):
        teacher = make_model(task, seed=1)
        logits = predict_logits(teacher, pairs)
        if labels is None and task == "single_label":
            labels = logits.argmax(dim=-1)
        elif labels is None:  # what the teacher says, so that both terms of the loss teach the same
            labels = logits if task == "regression" else (logits > logits.quantile(0.5, dim=0)).long()
        cut = [slice(0, 24), slice(24, 40)]
        return [
            DistillationDataset(pairs[rows], labels[rows], logits[rows], teacher.tokenizer, task=task) for rows in cut
        ]

    return make


def config_for(task, **changes):
    return DistillationConfig(**{"task": task, "temperature": 1.0, "alpha": 0.5} | changes)


# Data set and batch


def test_a_batch_of_scores_says_which_are_missing(small_tokenizer, pairs):
    data = DistillationDataset(pairs[:3], [1.0, None, 2.0], torch.ones(3), small_tokenizer, task="regression")
    assert repr(data) == "DistillationDataset(regression, 3 texts, 2 with hard labels, teacher logits of 1 columns)"
    batch = DistillationCollator(small_tokenizer)([data[i] for i in range(3)])
    assert batch["label_mask"].tolist() == [[True], [False], [True]]
    assert batch["teacher_logits"].shape == batch["labels"].shape == (3, 1)
    assert batch["token_type_ids"].shape == batch["input_ids"].shape
    assert batch["token_type_ids"].max() == 1
    losses = DistillationLoss(config_for("regression"))(
        torch.zeros(3, 1), batch["teacher_logits"], batch["labels"], label_mask=batch["label_mask"]
    )
    assert losses["task_loss"] == pytest.approx((1 + 4) / 3)
    complete = DistillationDataset(pairs[:2], [1.0, 2.0], None, small_tokenizer, task="regression")
    assert "label_mask" not in complete[0]


def test_a_batch_of_several_labels_is_a_matrix(small_tokenizer, pairs):
    data = DistillationDataset(pairs[:2], [[1, 0, -100], [0, 1, 1]], None, small_tokenizer, task="multi_label")
    batch = DistillationCollator(small_tokenizer)([data[0], data[1]])
    assert batch["labels"].tolist() == [[1, 0, -100], [0, 1, 1]]
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}


@pytest.mark.parametrize(
    ("task", "logits", "message"),
    [
        ("single_label", torch.zeros(2, 1), "have a single column.* say task='regression'.* say task='multi_label'"),
        ("multi_label", torch.zeros(2), r"floats of shape \(texts, labels\), got \(2,\)"),
        ("regression", torch.zeros(2, 1, 1), r"floats of shape \(texts, columns\), got \(2, 1, 1\)"),
        ("regression", torch.tensor([0.0, math.nan]), "row 1: the teacher's logits are not finite"),
        ("ranking", None, r"task must be one of \('single_label', 'multi_label', 'regression'\), got 'ranking'"),
        ("token_classification", None, "the labels of tokens need a data set of words"),
    ],
)
def test_a_data_set_refuses_what_its_task_cannot_have(small_tokenizer, task, logits, message):
    with pytest.raises(ValueError, match=message):
        DistillationDataset(["a", "b"], None if logits is not None else [0, 1], logits, small_tokenizer, task=task)


# The teacher's logits


@pytest.mark.parametrize("task", TASKS)
def test_logits_are_computed_for_the_task_of_the_teacher_alone(make_model, pairs, task):
    teacher = make_model(task)
    with pytest.raises(ValueError, match=f"the teacher's task is '{task}', by its .* pass task='{task}' here"):
        precompute_teacher_logits(teacher, pairs, device="cpu", progress=False)
    logits = precompute_teacher_logits(teacher, pairs, device="cpu", progress=False, task=task)
    assert torch.equal(logits, predict_logits(teacher, pairs))
    with pytest.raises(ValueError, match="the teacher's task is 'single_label'"):
        precompute_teacher_logits(make_model("single_label"), pairs, device="cpu", progress=False, task=task)


def test_a_cross_encoder_that_does_not_say_its_problem_is_refused_too(make_model, pairs):
    teacher = make_model("regression")
    teacher.model.config.problem_type = None
    with pytest.raises(ValueError, match="the teacher's task is 'regression', by its 1 output,"):
        precompute_teacher_logits(teacher, pairs, device="cpu", progress=False)


def test_the_cache_tells_a_pair_from_texts_that_look_like_it(make_model, tmp_path):
    teacher = make_model("single_label")
    inputs = [("a", "b"), "a b", "a [SEP] b", '["a", "b"]', ("a b", "c"), ("a", "b c"), ("b", "a")]
    found = [
        precompute_teacher_logits(teacher, [given], device="cpu", progress=False, cache_dir=tmp_path)
        for given in inputs
    ]
    assert len(list(tmp_path.iterdir())) == len(inputs)
    again = precompute_teacher_logits(teacher, inputs[:1], device="cpu", progress=False, cache_dir=tmp_path)
    assert torch.equal(again, found[0])
    without_segments = copy.deepcopy(teacher.tokenizer)
    without_segments.model_input_names = ["input_ids", "attention_mask"]
    other = precompute_teacher_logits(
        TextClassifier(teacher.model, without_segments), inputs[:1], device="cpu", progress=False, cache_dir=tmp_path
    )
    assert not torch.equal(other, found[0])


# Students


@pytest.mark.parametrize("task", ["single_label", *TASKS])
def test_a_student_has_its_teachers_task(make_model, pairs, task):
    student = create_student(make_model(task), pairs, vocab_size=400, hidden_size=16, n_layers=1)
    assert prediction_task(student.model) == task
    assert student.model.config.problem_type == PROBLEMS.get(task)
    assert student.label_names == NAMES[task]
    with pytest.raises(ValueError, match="row 0: a list of 2 is neither a text nor a pair"):
        create_student(make_model(task), [list(pairs[0])], vocab_size=400)


def test_a_new_transformer_says_its_task():
    assert prediction_task(create_transformer(["yes"], 50, hidden_size=8, task="multi_label")) == "multi_label"
    with pytest.raises(ValueError, match="a single_label model needs two or more distinct label names"):
        create_transformer(["yes"], 50, hidden_size=8)
    with pytest.raises(ValueError, match=r"task must be one of .* got 'ranking'"):
        create_transformer(["a", "b"], 50, hidden_size=8, task="ranking")


# Predictions


def test_labels_are_predicted_by_sigmoid_and_scores_as_they_are(make_model, pairs):
    several, score = make_model("multi_label"), make_model("regression")
    with torch.no_grad():
        several.model.classifier.bias -= predict_logits(several, pairs).quantile(0.5, dim=0)
    frame, logits = several.predict(pairs), predict_logits(several, pairs).double()
    assert list(frame.columns) == ["labels", "a", "b", "c"]
    assert np.allclose(frame[["a", "b", "c"]], logits.sigmoid())
    chosen = [tuple(name for name, value in zip("abc", row, strict=True) if value >= 0) for row in logits.tolist()]
    assert frame["labels"].tolist() == chosen
    assert len(set(chosen)) > 1
    frame = score.predict(pairs)
    assert list(frame.columns) == ["score"]
    assert np.allclose(frame["score"], predict_logits(score, pairs)[:, 0])
    assert list(make_model("regression", names=("price", "size")).predict(pairs[:1]).columns) == ["price", "size"]
    with pytest.raises(ValueError, match="one of the classes is called `labels`"):
        make_model("multi_label", names=("labels", "b")).predict(pairs)
    assert "3 labels" in repr(several)
    assert "1 score," in repr(score)


# Validation figures


def test_the_validation_figures_of_several_labels_are_those_of_the_evaluation():
    torch.manual_seed(0)
    logits, teacher, labels = torch.randn(12, 3), torch.randn(12, 3), torch.randint(0, 2, (12, 3)).float()
    labels[0] = -100
    labels[1, 0] = -100
    found = multi_label_validation(EvalPrediction((logits.numpy(), teacher.numpy()), labels.numpy()))
    row = multi_label_metrics(logits[1:], labels[1:])
    assert {name: found[name] for name in ("micro_f1", "macro_f1", "bce")} == pytest.approx(
        {name: row[name] for name in ("micro_f1", "macro_f1", "bce")}
    )
    assert found["agreement"] == pytest.approx(float(((logits >= 0) == (teacher >= 0)).double().mean()))
    assert found["kl"] == pytest.approx(float(mean_binary_divergence(logits, teacher)), rel=1e-5)
    unlabelled = multi_label_validation(EvalPrediction((logits.numpy(), teacher.numpy()), np.full((12, 3), -100.0)))
    assert set(unlabelled) == {"agreement", "kl", "agreement_then_kl"}


@pytest.mark.parametrize("name", ["micro_f1", "macro_f1"])
def test_of_equal_f1_the_lower_loss_is_better_and_never_beats_a_higher_f1(name):
    labels = np.array([[1.0], [0.0], [1.0]])

    def measure(*logits):
        return multi_label_validation(EvalPrediction(np.array(logits)[:, None], labels))[selection_metric(name)[0]]

    assert measure(2.0, -2.0, 2.0) > measure(1.0, -1.0, 1.0) > measure(0.1, -9.0, -0.1)


def test_the_validation_figures_of_scores_are_those_of_the_evaluation():
    torch.manual_seed(0)
    scores, teacher, labels = torch.randn(12, 2), torch.randn(12, 2), torch.randn(12, 2)
    found = regression_validation(EvalPrediction((scores.numpy(), teacher.numpy()), labels.numpy()))
    row = regression_metrics(scores, labels, teacher)
    names = ("mse", "spearman", "teacher_mse", "teacher_spearman")
    assert found == pytest.approx({name: row[name] for name in names}, rel=1e-5)


def test_missing_scores_are_left_out_by_column():
    scores, labels = np.arange(8.0).reshape(4, 2), np.array([[0, np.nan], [2, 1], [1, 5], [np.nan, 3]])
    found = regression_validation(EvalPrediction(scores, labels))
    known = ~np.isnan(labels)
    assert found["mse"] == pytest.approx(np.square(scores - labels)[known].mean())
    ranks = [spearmanr(scores[known[:, c], c], labels[known[:, c], c]).statistic for c in range(2)]
    assert found["spearman"] == pytest.approx(np.mean(ranks))
    assert regression_validation(EvalPrediction(scores, np.full((4, 2), np.nan))) == {}
    assert math.isnan(regression_validation(EvalPrediction(scores[:, :1], np.ones((4, 1))))["spearman"])


@pytest.mark.parametrize("measure", [multi_label_validation, regression_validation])
def test_a_student_of_nan_is_named_by_its_row(measure):
    with pytest.raises(ValueError, match="logits of validation row 1 are not finite"):
        measure(EvalPrediction(np.array([[0.0], [np.nan]]), np.array([[0.0], [1.0]])))


# Trainings


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_a_student_of_each_task_learns_is_saved_and_is_read_back(make_model, make_data, pairs, tmp_path, task):
    sets, student = make_data(task), make_model(task)
    before = evaluate_on(student, sets[0])
    result = train(student, sets, tmp_path / "s", config_for(task), n_epochs=6, learning_rate=1e-2, batch_size=8)
    assert list(result.history.columns[-len(TASK_VALIDATION[task].columns) :]) == list(TASK_VALIDATION[task].columns)
    assert evaluate_on(result.classifier, sets[0]) < before - 0.05 * abs(before)
    loaded = BertForSequenceClassification.from_pretrained(tmp_path / "s").eval()
    assert prediction_task(loaded) == task
    logits = predict_logits(TextClassifier(loaded, student.tokenizer), pairs)
    assert logits.allclose(predict_logits(result.classifier, pairs), atol=1e-6)
    best = TASK_VALIDATION[task].by_labels[0]
    figures = result.history[f"eval_{best}"]
    card = (tmp_path / "s" / "README.md").read_text(encoding="utf-8")
    assert f"{figures.max() if task == 'multi_label' else figures.min():.4f}" in card
    assert {"multi_label": "3 labels: a, b, c", "regression": "1 score"}[task] in " ".join(card.split())
    with pytest.warns(UserWarning, match="the student is read back"):
        train(
            make_model(task),
            make_data(task),
            tmp_path / "s",
            config_for(task),
            n_epochs=6,
            learning_rate=1e-2,
            batch_size=8,
        )


def evaluate_on(classifier, data):
    """The training loss of a data set."""
    batch = DistillationCollator(classifier.tokenizer)([data[i] for i in range(len(data))])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        logits = classifier.model.eval()(**inputs).logits
    loss = DistillationLoss(config_for(data.task))
    return float(loss(logits, batch["teacher_logits"], batch["labels"])["total_loss"])


def test_a_live_teacher_of_scores_gives_what_its_cached_scores_give(
    make_model, make_data, pairs, small_tokenizer, tmp_path
):
    teacher, labels = make_model("regression", seed=1), [None, *labels_for("regression", 39)]
    logits = predict_logits(teacher, pairs)
    losses = []
    for name, cached, live in (("cached", logits, None), ("live", None, teacher)):
        data = DistillationDataset(pairs, labels, cached, small_tokenizer, task="regression")
        trainer = DistillationTrainer(
            make_model("regression").model,
            config_for("regression"),
            arguments(tmp_path / name, logging_steps=1),
            teacher=live,
            train_dataset=data,
            eval_dataset=data,
            data_collator=DistillationCollator(small_tokenizer),
            processing_class=small_tokenizer,
        )
        trainer.train()
        figures = trainer.evaluate()
        assert {"eval_mse", "eval_spearman", "eval_teacher_mse"} <= set(figures)
        losses.append(
            [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] + [figures["eval_loss"]]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_validation_without_labels_goes_by_the_teacher(make_model, make_data, pairs, small_tokenizer, tmp_path):
    for task, figure in (("multi_label", "agreement"), ("regression", "teacher_mse")):
        sets = make_data(task)
        logits = predict_logits(make_model(task, seed=1), pairs[24:])
        sets[1] = DistillationDataset(pairs[24:], None, logits, small_tokenizer, task=task)
        result = train(make_model(task), sets, tmp_path / task, config_for(task))
        assert f"eval_{figure}" in result.history
        assert f"eval_{TASK_VALIDATION[task].by_labels[0]}" not in result.history


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("multi_label", {"data": "single_label"}, "train_dataset has the labels of task='single_label', and the Dist"),
        ("regression", {"config": "multi_label"}, "the student returns a score .* Set task='regression' in the"),
        ("single_label", {"config": "regression"}, "the student chooses one of several classes, .*task='regression'"),
        ("multi_label", {"names": ("a", "b")}, "3 teacher labels, but the student has 2"),
        ("regression", {"names": ("a", "b")}, "1 teacher scores, but the student has 2"),
        ("regression", {"metric": "accuracy"}, r"must be one of \['mse', 'spearman', 'teacher_mse'"),
        ("multi_label", {"metric": "mse"}, r"one of \['micro_f1', 'macro_f1', 'bce', 'agreement', 'kl', 'loss'"),
        ("regression", {"labels": [1.0] * 40, "metric": "spearman"}, "scores of val_dataset in column 0 are all the"),
        ("regression", {"labels": [*labels_for("regression", 39), None]}, "unlabelled messages, such as row 15,"),
        ("multi_label", {"labels": [[1, 0, -100]] * 40}, "val_dataset: no message says whether it has label 2"),
        ("multi_label", {"labels": [[-100] * 3] * 40}, "no training message has a hard label; set alpha=1"),
        ("regression", {"labels": [None] * 40}, "no training message has a hard label; set alpha=1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_the_training(make_model, make_data, tmp_path, task, change, message):
    sets = make_data(change.get("data", task), change.get("labels"))
    student = make_model(task, names=change.get("names"))
    config = config_for(change.get("config", task))
    with pytest.raises(ValueError, match=message):
        train(student, sets, tmp_path / "x", config, metric_for_best_model=change.get("metric"))
    assert not (tmp_path / "x").exists()


def test_the_trainer_refuses_a_data_set_of_another_task(make_model, make_data, tmp_path):
    data = make_data("single_label")[0]
    for sets in ({"train_dataset": data}, {"eval_dataset": {"own": data}}):
        with pytest.raises(ValueError, match=r"_dataset(\['own'\])? has the labels of task='single_label'"):
            DistillationTrainer(make_model("regression").model, config_for("regression"), arguments(tmp_path), **sets)


def test_pairs_and_joined_texts_are_different_runs(make_model, make_data, pairs, small_tokenizer, tmp_path):
    labels = labels_for("single_label", 40)
    sets = [DistillationDataset(pairs, labels, None, small_tokenizer) for _ in range(2)]
    config = DistillationConfig(alpha=0.0)
    train(make_model("single_label"), sets, tmp_path, config)
    for data in sets:  # the same tokens without segments, as of a text with the separator in it
        data.token_ids = [list(ids) for ids in data.token_ids]
    with pytest.raises(ValueError, match="another run, which differs in training segments"):
        train(make_model("single_label"), sets, tmp_path, config)


# The warning


def warned(task, labels, column, reached, teacher_logits=None):
    data = DistillationDataset.__new__(DistillationDataset)
    data.task, data.labels, data.teacher_logits = task, torch.tensor(labels), teacher_logits
    history = pd.DataFrame({"epoch": [1.0], column: [reached]})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn_if_nothing_was_learned(("mac", "pc"), data, history, column.removeprefix("eval_"))
    return [str(warning.message) for warning in seen]


def test_the_best_set_of_labels_judges_the_f1_score():
    labels = [[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [-100.0, 0.0]]
    # "mac" alone: 3 of 3 right, 4 labels in all: F1 = 6/7. Both: 4 of 7 said right: F1 = 8/11.
    (message,) = warned("multi_label", labels, "eval_micro_f1", 6 / 7)
    assert "its validation micro-F1 is 85.7%, and always answering ('mac',) would reach 85.7%" in message
    assert warned("multi_label", labels, "eval_micro_f1", 0.87) == []
    logits = torch.tensor([[1.0, -1], [1, 1], [-1, -1]])
    (message,) = warned("multi_label", [[-100.0, -100.0]] * 3, "eval_agreement", 0.6, logits)
    assert "agreement with the teacher is 60.0%, and always answering ('mac',) would reach 66.7%" in message


def test_the_mean_judges_scores():
    (message,) = warned("regression", [[0.0], [2.0], [math.nan]], "eval_mse", 1.0)
    assert "its validation squared error is 1, and always answering the mean, 1, would reach 1" in message
    assert warned("regression", [[0.0], [2.0]], "eval_mse", 0.99) == []
    missing = [[math.nan]] * 2
    assert warned("regression", missing, "eval_teacher_mse", 4.0, torch.tensor([[0.0], [4.0]])) != []
    assert warned("regression", [[1.0], [1.0]], "eval_mse", 0.0) == []


def test_the_record_of_a_run_is_json_for_every_task(make_data, make_model, tmp_path):
    data = make_data("regression", [None, *labels_for("regression", 39)])
    train(make_model("regression"), data, tmp_path, config_for("regression"), metric_for_best_model="mse")
    record = json.loads((tmp_path / "finished-run.key").read_text(encoding="utf-8"))
    assert record["run"]["task"] == "regression"


def test_pairs_are_evaluated(make_model, make_data, pairs):
    for task in ("single_label", *TASKS):
        data = SimpleNamespace(texts=pairs, labels=labels_for(task, len(pairs)))
        row = evaluate(make_model(task), data)
        assert {"single_label": "accuracy", "multi_label": "micro_f1", "regression": "mse"}[task] in row
