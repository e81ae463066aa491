"""The Trainer with the distillation objective: its gradient, its steps, and the features of both models.

What `train_student_with_distillation` makes of it is tested in test_training.py, where it has to do with features here.
"""

import copy

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import hooks_of
from training_runs import StopAt, flat, train, weights_sha256
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    TrainingArguments,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from distill_helpers import (
    DistillationCollator,
    DistillationConfig,
    DistillationDataset,
    DistillationLoss,
    DistillationTrainer,
    TextClassifier,
    create_transformer,
    load_text_classifier,
    precompute_teacher_features,
    remove_projectors,
)
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.models.architectures import ModelShape, transformer_layers
from distill_helpers.models.batching import encode_texts, pad_batch
from distill_helpers.models.capture import capture_features
from distill_helpers.models.text_models import label_options, predict_logits
from distill_helpers.training import projectors, trainer as distillation_trainer
from distill_helpers.training.run_setup import collator_for


def make_trainer(
    student, data, folder, config, *, batch_size=8, accumulation=1, n_steps=1, eval_batch_size=8, **options
):
    """Plain SGD: unlike Adam it does not hide a gradient that is off by a factor."""
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=n_steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=eval_batch_size,
        gradient_accumulation_steps=accumulation,
        optim="sgd",
        learning_rate=0.5,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    collator = DistillationCollator(student.tokenizer)
    return DistillationTrainer(student.model, config, args, train_dataset=data, data_collator=collator, **options)


def sgd_steps(student, data, folder, config, **options):
    """The weights after some steps, those of the projectors last, and the log of each step."""
    trainer = make_trainer(student, data, folder, config, **options)
    trainer.train()
    return flat(student.model), pd.DataFrame(trainer.state.log_history[: options.get("n_steps", 1)])


# The gradient


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "loss_kwargs"), [(4, 2, True), (2, 4, True), (1, 8, True), (2, 4, False)]
)
def test_accumulated_batches_are_one_batch(make_classifier, make_sets, tmp_path, batch_size, accumulation, loss_kwargs):
    (data, _), config = make_sets(), DistillationConfig(alpha=0.6)
    # In fives, so that the parts of a batch have different numbers of labelled messages.
    data.labels = [label if row % 5 < 2 else -100 for row, label in enumerate(data.labels)]
    whole, whole_log = sgd_steps(make_classifier(), data, tmp_path, config, n_steps=3)
    student = make_classifier()
    # What the Trainer finds out about forward(): for a student without **kwargs it would divide once more.
    student.model.accepts_loss_kwargs = loss_kwargs
    parts, parts_log = sgd_steps(
        student, data, tmp_path, config, batch_size=batch_size, accumulation=accumulation, n_steps=3
    )
    assert (whole - flat(make_classifier().model)).abs().max() > 1e-3
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    columns = ["loss", "grad_norm", "soft_target_loss", "task_loss"]
    pd.testing.assert_frame_equal(parts_log[columns], whole_log[columns], atol=1e-5, rtol=1e-4)


# Steps


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=3,
        pad_token_id=0,
        attention_bias=True,
    )
    return LlamaForSequenceClassification(config)


def bert():
    return create_transformer(("a", "b"), 50, hidden_size=16)


@pytest.mark.parametrize(("make", "norms"), [(llama, 5), (bert, 5)])
def test_weight_decay_is_for_matrices_alone(make, norms, tmp_path):
    model = make()
    args = TrainingArguments(output_dir=str(tmp_path), weight_decay=0.25, report_to="none", use_cpu=True)
    groups = DistillationTrainer(model, DistillationConfig(), args).create_optimizer().param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert set(decay) == {id(p) for p in model.parameters()}
    of = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    assert {name for name, value in of.items() if value == 0.25} == {
        name for name, parameter in model.named_parameters() if parameter.dim() == 2
    }
    scales = [name for name in of if "norm" in name.lower() and name.endswith("weight")]
    assert len(scales) == norms
    assert {of[name] for name in [*scales, *(name for name in of if name.endswith("bias"))]} == {0.0}


# Metrics


def test_evaluation_counts_unlabelled_messages_too(make_classifier, make_sets, tmp_path):
    student, data, config = make_classifier(), make_sets()[0], DistillationConfig(alpha=0.6)
    batch = DistillationCollator(student.tokenizer)([data[i] for i in range(48)])
    with torch.no_grad():
        logits = student.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = DistillationLoss(config)(logits, batch["teacher_logits"], batch["labels"])["total_loss"]
    trainer = make_trainer(student, data, tmp_path, config, eval_dataset=data)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("eval_batch_size", [1, 5, 48])
def test_the_evaluation_does_not_depend_on_the_batch_size(make_classifier, make_sets, tmp_path, eval_batch_size):
    data, config = make_sets()[0], DistillationConfig(alpha=0.6)

    def figures(size):
        trainer = make_trainer(make_classifier(), data, tmp_path, config, eval_dataset=data, eval_batch_size=size)
        return {k: v for k, v in trainer.evaluate().items() if not k.endswith(("runtime", "second", "time"))}

    found = figures(eval_batch_size)
    assert {"eval_loss", "eval_accuracy", "eval_nll", "eval_agreement", "eval_kl"} < set(found)
    assert found == pytest.approx(figures(8), rel=1e-5)


def test_a_metric_of_the_callers_sees_the_logits_alone(make_classifier, make_sets, tmp_path):
    def shape(prediction):
        return {"columns": prediction.predictions.shape[1]}

    data = make_sets()[0]
    trainer = make_trainer(
        make_classifier(), data, tmp_path, DistillationConfig(), eval_dataset=data, compute_metrics=shape
    )
    assert trainer.evaluate()["eval_columns"] == 5


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_live_teacher_is_compared_with_its_student_in_the_evaluation(make_classifier, make_sets, tmp_path, alpha):
    data = make_sets(with_logits=False)[0]
    teacher = make_classifier(seed=1)
    trainer = make_trainer(
        make_classifier(seed=1), data, tmp_path, DistillationConfig(alpha=alpha), eval_dataset=data, teacher=teacher
    )
    figures = trainer.evaluate()
    assert figures["eval_agreement"] == 1
    assert figures["eval_kl"] == pytest.approx(0, abs=1e-6)


# A teacher beside the student


def test_a_teacher_in_training_mode_runs_without_dropout_and_stays_in_it(make_classifier, make_sets, tmp_path):
    config, data = DistillationConfig(alpha=1), make_sets(with_logits=False)[0]
    teacher = make_classifier(seed=1, dropout=0.5)
    calm, _ = sgd_steps(make_classifier(), data, tmp_path, config, n_steps=2, teacher=teacher)
    assert not teacher.model.training
    teacher.model.train()
    weights, _ = sgd_steps(make_classifier(), data, tmp_path, config, n_steps=2, teacher=teacher)
    assert torch.equal(weights, calm)
    assert all(module.training for module in teacher.model.modules())


def share_an_embedding(student, teacher):
    student.bert.embeddings.word_embeddings = teacher.bert.embeddings.word_embeddings


def share_memory(student, teacher):
    student.classifier.weight = torch.nn.Parameter(teacher.classifier.weight.data)


@pytest.mark.parametrize(
    ("share", "name"),
    [(share_an_embedding, "bert.embeddings.word_embeddings.weight"), (share_memory, "classifier.weight")],
)
def test_a_teacher_that_shares_weights_with_its_student_is_refused(make_classifier, make_sets, tmp_path, share, name):
    data, student, teacher = make_sets()[0], make_classifier(), make_classifier(seed=1)
    share(student.model, teacher.model)
    with pytest.raises(ValueError, match=f"the student's {name} and the teacher's {name} are the same tensor"):
        make_trainer(student, data, tmp_path, DistillationConfig(), teacher=teacher)
    with pytest.raises(ValueError, match="are the same tensor"):
        make_trainer(teacher, data, tmp_path, DistillationConfig(), teacher=teacher)
    # What is frozen can't change.
    student.model.get_parameter(name).requires_grad_(False)
    make_trainer(student, data, tmp_path, DistillationConfig(), teacher=teacher)


def test_a_teacher_with_its_classes_in_another_order_is_refused(make_classifier, make_sets, tmp_path):
    teacher, names = make_classifier(seed=1), make_classifier().label_names
    teacher.model.config.id2label = dict(enumerate(reversed(names)))
    with pytest.raises(ValueError, match="the teacher has the student's classes in another order"):
        make_trainer(make_classifier(), make_sets()[0], tmp_path, DistillationConfig(), teacher=teacher)


def test_a_collator_that_pads_on_the_other_side_is_refused(make_classifier, make_sets, tmp_path):
    data, _ = make_sets()
    options = {"train_dataset": data, "args": TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)}
    collator = DistillationCollator(data.tokenizer, side="left")
    with pytest.raises(ValueError, match=r"pads on the left, .* write DistillationCollator\(tokenizer, side='right'\)"):
        DistillationTrainer(make_classifier().model, DistillationConfig(), data_collator=collator, **options)
    config = XLNetConfig(vocab_size=400, d_model=16, n_layer=1, n_head=2, d_inner=16, num_labels=5)
    last_column = XLNetForSequenceClassification(config)
    DistillationTrainer(last_column, DistillationConfig(), data_collator=collator, **options)
    assert collator_for(TextClassifier(last_column, data.tokenizer), DistillationConfig()).side == "left"
    with pytest.raises(ValueError, match="the collator pads on the right"):
        DistillationTrainer(
            last_column, DistillationConfig(), data_collator=DistillationCollator(data.tokenizer), **options
        )


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
@pytest.mark.parametrize("who", ["student", "teacher"])
def test_models_of_other_tasks_are_refused(make_classifier, make_sets, tmp_path, problem, who):
    models = {"student": make_classifier(), "teacher": make_classifier(seed=1)}
    models[who].model.config.problem_type = problem
    reason = f"the {who} (is a multi-label classifier|returns a score)"
    with pytest.raises(ValueError, match=reason):
        make_trainer(models["student"], make_sets()[0], tmp_path, DistillationConfig(), teacher=models["teacher"])
    if who == "student":
        with pytest.raises(ValueError, match=reason):
            train(models["student"], make_sets(), tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["student", "teacher"])
def test_a_loss_that_is_not_finite_stops_the_training(make_classifier, make_sets, tmp_path, where):
    student, teacher = make_classifier(), make_classifier(seed=1)
    broken = student if where == "student" else teacher
    with torch.no_grad():
        broken.model.classifier.bias[2] = torch.nan
    data = make_sets(with_logits=False)[0]
    trainer = make_trainer(student, data, tmp_path, DistillationConfig(), teacher=teacher, eval_dataset=data)
    with pytest.raises(ValueError, match="the loss is nan at step 0; lower the learning rate"):
        trainer.train()
    with pytest.raises(ValueError, match="the loss is nan in the evaluation after step 0"):
        trainer.evaluate()


# Features. The teacher has twice the student's layers and, where it says so, one and a half times its width.

CONFIGS = {
    "hidden_loss": {"intermediate_layers": True},
    "attention_loss": {"attention_matching": True},
    "attention_loss of distributions": {"attention_matching": True, "attention_target": "distributions"},
    "embedding_loss": {"embedding_loss_weight": 1.0},
    "cosine_loss": {"cosine_loss_weight": 1.0},
    "relation_loss": {"relations": ("queries", "keys", "values"), "relation_heads": 4},
}
EVERY = pytest.mark.parametrize("choices", CONFIGS.values(), ids=CONFIGS)
EVERYTHING = {key: value for name, choices in CONFIGS.items() if " " not in name for key, value in choices.items()}


def classifier_of(make_classifier, who, kind="bert", width=None, dropout=0.0):
    """A teacher of 4 layers, a student of 2; of both families, of any width."""
    seed, n_layers, default = {"teacher": (1, 4, 48), "student": (0, 2, 32)}[who]
    width = width or default
    if kind == "bert":
        return make_classifier(seed, n_layers=n_layers, hidden_size=width, dropout=dropout)
    tokenizer, names = make_classifier().tokenizer, make_classifier().label_names
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2 if who == "teacher" else 4,
        max_position_embeddings=40,
        attention_dropout=dropout,
        **label_options(names),
    )
    return TextClassifier(LlamaForSequenceClassification(config).eval(), tokenizer)


@pytest.fixture(params=["bert", "llama"])
def kind(request):
    return request.param


@pytest.fixture
def models(make_classifier):
    """Makes a teacher and a student, with projectors between them unless their widths are made equal."""

    def make(kind="bert", width=None, dropout=0.0):
        return (
            classifier_of(make_classifier, "teacher", kind, width),
            classifier_of(make_classifier, "student", kind, width, dropout),
        )

    return make


@pytest.fixture
def make_feature_sets(make_sets, help_desk):
    """The sets of `make_sets`, with the cached features of a teacher."""

    def make(teacher, names, dtype=torch.float32, parts=(0, 1), **options):
        sets = list(make_sets(**options))
        texts = help_desk.train.subset(range(0, 2496, 52)).texts, help_desk.validation.subset(range(0, 399, 19)).texts
        for i in parts:
            data, tokenizer = sets[i], teacher.tokenizer
            features = precompute_teacher_features(
                teacher, texts[i], names, device="cpu", storage_dtype=dtype, batch_size=16, progress=False
            )
            sets[i] = DistillationDataset(
                texts[i], data.labels, data.teacher_logits, tokenizer, teacher_features=features
            )
        return tuple(sets)

    return make


def names_for(config, teacher, student):
    return FeatureTerms(config, ModelShape.of(student.model), ModelShape.of(teacher.model)).teacher_names


@EVERY
def test_each_term_changes_the_weights_in_the_first_step(models, make_sets, kind, tmp_path, choices):
    (teacher, student), data = models(kind), make_sets()[0]
    off, _ = sgd_steps(models(kind)[1], data, tmp_path, DistillationConfig())
    on, log = sgd_steps(student, data, tmp_path, DistillationConfig(**choices), teacher=teacher)
    (name,) = {name.split()[0] for name, own in CONFIGS.items() if own == choices}
    assert log[name].item() > 0
    assert (on[: len(off)] - off).abs().max() > 1e-5


@pytest.mark.slow
def test_a_term_that_is_off_costs_nothing_and_leaves_every_bit_as_it_is(models, make_sets, tmp_path, monkeypatch):
    teacher, _ = models()
    data = make_sets()[0]

    def steps(**options):
        student = models(dropout=0.1)[1]
        weights, log = sgd_steps(student, data, tmp_path, DistillationConfig(), n_steps=3, **options)
        return weights, log["loss"].tolist()

    def forbidden(*_):
        raise AssertionError("no feature is asked for")

    with_teacher, alone = steps(teacher=teacher), steps()
    monkeypatch.setattr(distillation_trainer, "capture_features", forbidden)
    monkeypatch.setattr(projectors, "FeatureTerms", forbidden)
    monkeypatch.setattr(teacher.model, "forward", forbidden)
    for other in (alone, steps(), steps(teacher=teacher)):
        assert torch.equal(other[0], with_teacher[0])
        assert other[1] == with_teacher[1]
    # A switch that is on with a weight of 0 is off.
    student = models(dropout=0.1)[1]
    silent = DistillationConfig(intermediate_layers=True, hidden_loss_weight=0)
    assert torch.equal(sgd_steps(student, data, tmp_path, silent, n_steps=3)[0], alone[0])


def test_without_teacher_logits_the_live_teacher_gives_the_same_weights(models, make_sets, help_desk, tmp_path):
    teacher, student = models()
    data, config = make_sets()[0], DistillationConfig(alpha=1)
    data.teacher_logits = predict_logits(teacher, help_desk.train.subset(range(0, 2496, 52)).texts)
    cached, _ = sgd_steps(student, data, tmp_path, config, n_steps=3)
    data.teacher_logits = None
    live, _ = sgd_steps(models()[1], data, tmp_path, config, n_steps=3, teacher=teacher)
    torch.testing.assert_close(live, cached, atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [None, 32], ids=["projected", "equal widths"])
@pytest.mark.slow
def test_live_and_cached_features_give_the_same_weights(models, make_sets, make_feature_sets, tmp_path, kind, width):
    (teacher, student), config = models(kind, width), DistillationConfig(**EVERYTHING)
    before = copy.deepcopy(teacher.model.state_dict())
    live, live_log = sgd_steps(student, make_sets()[0], tmp_path, config, n_steps=3, teacher=teacher)
    data = make_feature_sets(teacher, names_for(config, *models(kind, width)), parts=[0])[0]
    cached, cached_log = sgd_steps(models(kind, width)[1], data, tmp_path, config, n_steps=3)
    torch.testing.assert_close(live, cached, atol=2e-5, rtol=0)
    pd.testing.assert_frame_equal(live_log, cached_log, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(live[:100], flat(models(kind, width)[1].model)[:100], atol=1e-3)
    # The teacher has learned nothing, and neither model keeps a hook.
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.model.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    assert hooks_of(teacher.model) == hooks_of(student.model) == 0


@pytest.mark.slow
def test_fp16_features_change_little(models, make_feature_sets, tmp_path):
    (teacher, student), config = models(), DistillationConfig(**EVERYTHING)
    names = names_for(config, teacher, student)
    runs = [
        sgd_steps(models()[1], make_feature_sets(teacher, names, dtype, parts=[0])[0], tmp_path, config)[0]
        for dtype in (torch.float32, torch.float16)
    ]
    assert not torch.equal(*runs)
    torch.testing.assert_close(*runs, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 2), (1, 8)])
@pytest.mark.slow
def test_accumulation_does_not_change_feature_losses(models, make_sets, tmp_path, kind, batch_size, accumulation):
    config, data = DistillationConfig(**EVERYTHING), make_sets()[0]
    runs = []
    for sizes in ((8, 1), (batch_size, accumulation)):
        teacher, student = models(kind)
        options = {"batch_size": sizes[0], "accumulation": sizes[1], "n_steps": 3, "teacher": teacher}
        runs.append(sgd_steps(student, data, tmp_path, config, **options))
    torch.testing.assert_close(runs[1][0], runs[0][0], atol=2e-5, rtol=0)
    columns = ["loss", "grad_norm", *config.feature_weights]
    pd.testing.assert_frame_equal(runs[1][1][columns], runs[0][1][columns], atol=1e-4, rtol=1e-4)


def test_the_logged_loss_is_the_weighted_sum_of_its_terms(models, make_sets, tmp_path):
    weights = {"hidden_loss_weight": 0.5, "attention_loss_weight": 2.0, "relation_loss_weight": 3.0}
    config = DistillationConfig(**EVERYTHING | weights, alpha=0.3, response_loss_weight=0.7)
    teacher, student = models()
    _, log = sgd_steps(student, make_sets()[0], tmp_path, config, teacher=teacher)
    (row,) = log.to_dict("records")
    total = 0.7 * (0.3 * row["soft_target_loss"] + 0.7 * row["task_loss"])
    total += sum(weight * row[name] for name, weight in config.feature_weights.items())
    assert len(config.feature_weights) == 5
    assert row["loss"] == pytest.approx(total, rel=1e-4)


@EVERY
def test_every_layer_that_a_term_reaches_is_changed_by_it(models, make_sets, tmp_path, kind, choices):
    teacher, student = models(kind)
    before = copy.deepcopy(student.model)
    config = DistillationConfig(**choices, response_loss_weight=0)
    sgd_steps(student, make_sets()[0], tmp_path, config, teacher=teacher)
    changed = [
        [
            name
            for (name, old), new in zip(one.named_parameters(), other.parameters(), strict=True)
            if (old != new).any()
        ]
        for one, other in zip(transformer_layers(before), transformer_layers(student.model), strict=True)
    ]
    embeddings = (m.get_input_embeddings().weight for m in (before, student.model))
    assert not torch.equal(*embeddings)
    if "embedding_loss_weight" in choices:
        assert changed == [[], []]
        return
    matrices = [name for name, parameter in transformer_layers(before)[0].named_parameters() if parameter.dim() == 2]
    assert set(matrices) <= set(changed[0])
    attention = [name for name in matrices if any(word in name for word in ("query", "key", "q_proj", "k_proj"))]
    hidden = {"intermediate_layers", "cosine_loss_weight"} & set(choices)
    assert set(matrices if hidden else attention) <= set(changed[1])


# Projectors


def projector_weights(state):
    return {name: tensor for name, tensor in state.items() if "projector" in name}


def test_projectors_are_in_the_optimizer_and_move(models, make_sets, tmp_path):
    (teacher, student), config = models(), DistillationConfig(**EVERYTHING)
    trainer = make_trainer(student, make_sets()[0], tmp_path, config, teacher=teacher)
    projectors = trainer.loss_fn.feature_terms.projectors
    before = copy.deepcopy(projectors.state_dict())
    assert len(before) == 2 * 3  # embeddings and two layers: weight and bias
    trainer.train()
    optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in projectors.parameters()} <= optimised
    assert all(not torch.equal(tensor, before[name]) for name, tensor in projectors.state_dict().items())
    assert not {id(p) for p in teacher.model.parameters()} & optimised


def test_equal_widths_add_no_parameter(models, make_sets, tmp_path):
    (teacher, student), config = models(width=32), DistillationConfig(**EVERYTHING)
    keys = list(student.model.state_dict())
    sgd_steps(student, make_sets()[0], tmp_path, config, teacher=teacher)
    assert list(student.model.state_dict()) == keys


def test_projectors_can_be_taken_out(models, make_sets, tmp_path):
    (teacher, student), config = models(), DistillationConfig(intermediate_layers=True)
    keys = list(student.model.state_dict())
    make_trainer(student, make_sets()[0], tmp_path, config, teacher=teacher)
    assert list(student.model.state_dict()) != keys
    remove_projectors(student.model)
    remove_projectors(student.model)  # nothing more to do
    assert list(student.model.state_dict()) == keys


RUN = {"n_epochs": 3, "learning_rate": 5e-3, "batch_size": 16, "seed": 11}


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_its_projectors_and_ends_with_the_same_bits(models, make_sets, tmp_path, kind):
    config = DistillationConfig(**EVERYTHING)

    def run(folder, *callbacks):
        teacher, student = models(kind, dropout=0.1)
        return train(student, make_sets(), tmp_path / folder, config, **RUN, teacher=teacher, callbacks=callbacks)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", StopAt(8))
    saved = [
        projector_weights(load_file(path))
        for path in sorted((tmp_path / "parts").rglob("checkpoint-*/model.safetensors"))
    ]
    assert [len(state) for state in saved] == [6, 6]
    for name, tensor in saved[0].items():
        assert not torch.equal(tensor, saved[1][name])  # they learn

    seen = {}

    class SeeProjectors(StopAt):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            seen.update({name: tensor.clone() for name, tensor in projector_weights(model.state_dict()).items()})

    again = run("parts", SeeProjectors(step=None))
    assert seen.keys() == saved[1].keys()
    assert all(torch.equal(tensor, saved[1][name]) for name, tensor in seen.items())
    assert weights_sha256(tmp_path / "parts") == weights_sha256(whole.output_dir)
    pd.testing.assert_frame_equal(again.history, whole.history)


def test_the_saved_student_is_a_plain_model(models, make_sets, tmp_path, help_desk, kind):
    teacher, student = models(kind)
    keys = set(student.model.state_dict())
    before = copy.deepcopy(student.model.state_dict())
    result = train(student, make_sets(), tmp_path, DistillationConfig(**EVERYTHING), teacher=teacher)
    assert set(result.model.state_dict()) == keys
    assert set(load_file(tmp_path / "model.safetensors")) <= keys
    loaded = load_text_classifier(tmp_path, device="cpu")
    texts = help_desk.test.texts[:5]
    expected = predict_logits(result.classifier, texts)
    assert torch.equal(predict_logits(loaded, texts), expected)
    assert f"{sum(p.numel() for p in student.model.parameters()):,} parameters" in (tmp_path / "README.md").read_text()
    # Nor has the caller's student got anything.
    assert set(student.model.state_dict()) == keys
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.model.state_dict().items())
    assert [name for name in result.history.columns if name.endswith("_loss")] == [
        "soft_target_loss",
        "task_loss",
        "hidden_loss",
        "attention_loss",
        "embedding_loss",
        "cosine_loss",
        "relation_loss",
        "eval_loss",
    ]
    assert {"eval_nll", "eval_agreement", "eval_kl"} < set(result.history.columns)
    assert not result.history.isna().any(axis=None)


@pytest.mark.slow
def test_checkpoints_of_other_features_or_another_teacher_are_refused(models, make_sets, make_feature_sets, tmp_path):
    config = DistillationConfig(intermediate_layers=True)
    teacher, student = models()
    with pytest.raises(KeyboardInterrupt):
        train(student, make_sets(), tmp_path, config, n_epochs=2, teacher=teacher, callbacks=[StopAt(4)])
    moved = copy.deepcopy(teacher)
    with torch.no_grad():
        moved.model.bert.encoder.layer[3].output.dense.bias.add_(0.1)
    names = names_for(config, teacher, student)
    others = [
        (make_sets(), {"teacher": moved}),
        (make_sets(), {"teacher": teacher, "config": DistillationConfig()}),
        (make_feature_sets(teacher, names), {}),
    ]
    for sets, settings in others:
        with pytest.raises(ValueError, match="another student, data or settings"):
            train(student, sets, tmp_path, **{"config": config, "n_epochs": 2} | settings)


@pytest.mark.slow
def test_checkpoints_of_other_cached_features_are_refused(models, make_feature_sets, tmp_path):
    config = DistillationConfig(intermediate_layers=True)
    teacher, student = models()
    names = names_for(config, teacher, student)
    sets = make_feature_sets(teacher, names)
    with pytest.raises(KeyboardInterrupt):
        train(student, sets, tmp_path, config, n_epochs=2, callbacks=[StopAt(4)])
    for part, name in ((0, "training"), (1, "validation")):
        sets = make_feature_sets(teacher, names)
        features = sets[part].teacher_features.tensors
        features[names[0]] = features[names[0]] + 1
        with pytest.raises(ValueError, match=f"differs in teacher features of the {name} texts;"):
            train(student, sets, tmp_path, config, n_epochs=2)


# Which epoch is best


def evaluated(student, teacher, texts, config):
    """The feature loss over a set at once, with both models live."""
    terms = FeatureTerms(config, ModelShape.of(student.model), ModelShape.of(teacher.model))
    batch = pad_batch(encode_texts(student.tokenizer, texts), student.tokenizer)
    with torch.no_grad(), capture_features(student.model) as own, capture_features(teacher.model) as others:
        student.model(**batch)
        teacher.model(**batch)
        values = terms(own, others, batch["attention_mask"])
    return sum(config.feature_weights[name] * float(value.mean()) for name, value in values.items())


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.slow
def test_features_alone_choose_the_epoch_by_the_validation_loss(
    models, make_feature_sets, tmp_path, help_desk, labelled
):
    config = DistillationConfig(response_loss_weight=0, intermediate_layers=True)
    teacher, student = models(width=32)
    names = names_for(config, teacher, student)
    data = make_feature_sets(teacher, names, with_logits=False)[0]
    # In validation the student's own features count, from which training leads away: the first epoch is the best.
    itself = copy.deepcopy(student)
    validation = make_feature_sets(itself, ["hidden.0", "hidden.1"], with_logits=False)[1]
    renamed = {"hidden.1": "hidden.0", "hidden.3": "hidden.1"}
    features = validation.teacher_features
    validation.teacher_features = features._replace(
        tensors={name: features.tensors[own] for name, own in renamed.items()}
    )
    if not labelled:
        validation.labels = [-100] * len(validation)
    result = train(student, (data, validation), tmp_path, config, n_epochs=3, learning_rate=2e-3)
    losses = result.history["eval_loss"]
    assert list(losses) == sorted(losses)
    assert losses.iloc[2] > 1.2 * losses.iloc[0]
    texts = help_desk.validation.subset(range(0, 399, 19)).texts
    same_depth = DistillationConfig(response_loss_weight=0, intermediate_layers=True, layer_mapping=((0, 0), (1, 1)))
    found = evaluated(result.classifier, itself, texts, same_depth)
    assert found == pytest.approx(losses.iloc[0], rel=1e-4)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| best epoch | 1 of 3 |" in card
    assert f"the head is untrained) | {losses.iloc[0]:.4f} |" in card
    assert set(result.history.columns) >= {"loss", "hidden_loss", "eval_loss"}
    assert ("eval_accuracy" in result.history.columns) == labelled
    before = student.model.state_dict()
    head = [name for name in before if name.startswith(("classifier", "bert.pooler"))]
    assert len(head) == 4
    weights = result.model.state_dict()
    assert all(torch.equal(weights[name], before[name]) for name in head)  # features have no say there


@pytest.mark.slow
def test_features_alone_need_no_logits_and_bring_the_student_nearer(models, make_sets, tmp_path, help_desk, kind):
    config = DistillationConfig(**EVERYTHING, response_loss_weight=0)
    teacher, student = models(kind, width=32)
    texts = help_desk.validation.subset(range(0, 399, 19)).texts
    before = evaluated(student, teacher, texts, config)
    result = train(
        student, make_sets(with_logits=False), tmp_path, config, n_epochs=3, learning_rate=2e-3, teacher=teacher
    )
    after = evaluated(result.classifier, teacher, texts, config)
    assert result.history["eval_loss"].min() == pytest.approx(after, rel=1e-4)
    assert after < 0.95 * before


# What is refused


def test_feature_terms_need_a_teacher_or_its_features(models, make_sets, make_feature_sets, tmp_path):
    (teacher, student), config = models(), DistillationConfig(intermediate_layers=True)
    with pytest.raises(ValueError, match="pass teacher=, or a train_dataset with teacher_features"):
        make_trainer(student, make_sets()[0], tmp_path, config)
    names = names_for(config, teacher, student)
    with pytest.raises(ValueError, match="train_dataset has no teacher features and feature terms are on"):
        train(student, make_feature_sets(teacher, names, parts=[1]), tmp_path / "out", config)
    with pytest.raises(ValueError, match="val_dataset has no teacher features and feature terms are on"):
        train(student, make_feature_sets(teacher, names, parts=[0]), tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


def test_features_that_are_missing_from_the_cache_are_named(models, make_feature_sets, tmp_path):
    (teacher, student), config = models(), DistillationConfig(intermediate_layers=True)
    data = make_feature_sets(teacher, ["hidden.1", "hidden.2"], parts=[0])[0]
    with pytest.raises(ValueError, match=r"lack \['hidden\.3'\]; compute \['hidden\.1', 'hidden\.3'\]"):
        make_trainer(student, data, tmp_path, config)


def test_a_live_teacher_of_another_vocabulary_is_refused(models, make_sets, base_tokenizer, tmp_path):
    (teacher, student), config = models(), DistillationConfig(intermediate_layers=True)
    other = TextClassifier(teacher.model, base_tokenizer)
    with pytest.raises(ValueError, match="different vocabularies, and the teacher reads the student's tokens"):
        train(student, make_sets(), tmp_path, config, teacher=other)


def test_models_that_do_not_fit_the_configuration_are_refused(make_classifier, models, make_sets, tmp_path):
    teacher, _ = models()
    three = make_classifier(n_layers=3)
    with pytest.raises(ValueError, match="4 / 3 is none"):
        make_trainer(three, make_sets()[0], tmp_path, DistillationConfig(intermediate_layers=True), teacher=teacher)
    heads = TextClassifier(
        create_transformer(three.label_names, 400, hidden_size=32, n_heads=4, max_length=32), three.tokenizer
    )
    with pytest.raises(ValueError, match="the student has 4 attention heads, the teacher 2"):
        make_trainer(heads, make_sets()[0], tmp_path, DistillationConfig(attention_matching=True), teacher=teacher)
