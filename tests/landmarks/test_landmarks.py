"""The landmark recipes: each runs on an encoder and on a decoder, does what its paper does, and its switches switch."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_teacher
from transformers import TrainerCallback

from distill_helpers.data.augmentation import augment_labelled_texts
from distill_helpers.data.labelled_texts import LabelledTexts, TextSplits
from distill_helpers.landmarks import (
    Training,
    data_driven,
    distilbert,
    hard_label_baseline,
    minilm,
    prune_and_heal,
    random_twin,
    stages as stages_module,
    tinybert,
)
from distill_helpers.landmarks.stages import alternating_student
from distill_helpers.llm.synthetic_data import SyntheticMessage
from distill_helpers.models.architectures import transformer_layers
from distill_helpers.models.loading import load_text_classifier
from distill_helpers.models.text_models import predict_logits
from distill_helpers.training.dataset import encode_texts
from distill_helpers.training.distilled_student import DistilledStudent

RECIPES = {
    "distilbert": distilbert,
    "tinybert": lambda *args, **kwargs: tinybert(*args, hidden_size=16, **kwargs),
    "minilm": minilm,
    "minilm v2": lambda *args, **kwargs: minilm(
        *args, version=2, hidden_size=16, n_heads=2, relation_heads=8, **kwargs
    ),
    "prune and heal": prune_and_heal,
}


@pytest.fixture(scope="module")
def data(help_desk):
    """30 messages of three queues for training, 12 for validation and test, and transfer texts."""

    def part(texts, rows):
        labels = [texts.labels[row] for row in rows]
        classes = sorted(set(labels))
        return LabelledTexts([texts.texts[row] for row in rows], [classes.index(label) for label in labels], NAMES)

    by_class = [[i for i, y in enumerate(help_desk.train.labels) if y == label] for label in range(3)]
    rows = [i for some in by_class for i in some[:18]]
    train, rest = [r for k, r in enumerate(rows) if k % 18 < 10], [r for k, r in enumerate(rows) if k % 18 >= 10]
    return TextSplits(
        part(help_desk.train, train),
        part(help_desk.train, rest[::2]),
        part(help_desk.train, rest[1::2]),
        tuple(help_desk.transfer[:40]),
    )


NAMES = ("graphics", "windows", "mac")


@pytest.fixture(scope="module", params=["bert", pytest.param("llama", marks=pytest.mark.slow)])
def teacher(request, base_tokenizer):
    return tiny_teacher(request.param, base_tokenizer)


@pytest.fixture
def training(tmp_path):
    return Training(
        epochs=1, n_transfer=8, max_length=24, batch_size=16, device="cpu", output_dir=tmp_path / "run", progress=False
    )


@pytest.fixture
def stages(monkeypatch):
    """What each stage of a recipe was told: the configuration and the training set."""
    seen = []
    real = stages_module.train_student_with_distillation

    def spy(student, train, validation, config, **kwargs):
        seen.append((config, train))
        return real(student, train, validation, config, **kwargs)

    monkeypatch.setattr(stages_module, "train_student_with_distillation", spy)
    return seen


def labelled_transfer(data):
    """The data, whose transfer texts inherit labels in turn; every fifth has none."""
    labels = tuple(-100 if row % 5 == 4 else row % 3 for row in range(len(data.transfer)))
    return dataclasses.replace(data, transfer_labels=labels)


@pytest.fixture
def told(monkeypatch):
    """What each stage was told, without training: the labels of the training set, and the settings."""
    seen = []

    def spy(student, train, validation, config, **kwargs):
        seen.append((train, kwargs))
        return DistilledStudent(student.model, student.tokenizer, None, kwargs["output_dir"])

    monkeypatch.setattr(stages_module, "train_student_with_distillation", spy)
    return seen


def test_the_stage_on_features_has_passes_of_its_own(teacher, data, training, told):
    tinybert(teacher, data, dataclasses.replace(training, epochs=3, feature_epochs=2), hidden_size=16)
    tinybert(teacher, data, dataclasses.replace(training, epochs=3), hidden_size=16)
    assert [settings["n_epochs"] for _, settings in told] == [2, 3, 3, 3]


def test_batches_are_grouped_by_length_where_that_is_asked_for(teacher, data, training, told):
    for grouped in (False, True):
        distilbert(teacher, data, dataclasses.replace(training, group_by_length=grouped))
    assert [settings["group_by_length"] for _, settings in told] == [False, True]


def test_every_stage_has_the_callbacks(teacher, data, training, told):
    callback = TrainerCallback()
    tinybert(teacher, data, dataclasses.replace(training, callbacks=(callback,)), hidden_size=16)
    assert [settings["callbacks"] for _, settings in told] == [(callback,)] * 2


def test_inherited_labels_reach_every_stage_with_hard_labels(teacher, data, training, told):
    data, training = labelled_transfer(data), dataclasses.replace(training, inherited_labels=True)
    read = encode_texts(teacher.tokenizer, list(data.transfer), training.max_length)
    own = {tuple(ids): label for ids, label in zip(read, data.transfer_labels, strict=True)}
    distilbert(teacher, data, training)
    hard_label_baseline(alternating_student(teacher), data, training)
    minilm(teacher, data, training)
    n = len(data.train.texts)
    assert len(told) == 4
    for train, _ in told:
        assert train.labels[:n] == data.train.labels
        assert train.labels[n:] == [own[tuple(ids)] for ids in train.token_ids[n:]]
        assert len(train) == n + training.n_transfer
        assert set(train.labels[n:]) - {-100}


def test_made_texts_inherit_labels_too(teacher, data, training, told):
    bare = dataclasses.replace(data, transfer=())
    distilbert(teacher, bare, training)
    distilbert(teacher, bare, dataclasses.replace(training, inherited_labels=True))
    (without, _), (inherited, _) = told
    assert without.token_ids == inherited.token_ids
    texts, labels = augment_labelled_texts(data.train, training.n_transfer, seed=0)
    assert inherited.labels == data.train.labels + labels
    assert inherited.token_ids[len(data.train) :] == encode_texts(teacher.tokenizer, texts, training.max_length)


def test_settings_out_of_range_are_refused_before_any_stage(teacher, data, training, told):
    with pytest.raises(ValueError, match="do not say which labels"):
        hard_label_baseline(alternating_student(teacher), data, dataclasses.replace(training, inherited_labels=True))
    for bad in ({"epochs": 0}, {"feature_epochs": 0}, {"learning_rate": 0.0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="got 0"):
            Training(**bad)
    assert not told


def test_the_repr_of_the_settings_is_one_line_with_what_differs_from_the_defaults():
    assert repr(Training()) == "Training()"
    assert repr(Training(epochs=2, device="cpu", output_dir="x")) == "Training(epochs=2, device='cpu', output_dir='x')"


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.slow
def test_every_recipe_runs_on_an_encoder_and_on_a_decoder(name, teacher, data, training):
    before = {key: value.clone() for key, value in teacher.model.state_dict().items()}
    result = RECIPES[name](teacher, data, training)
    after = teacher.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items()), "the teacher was trained"
    assert type(result.model) is type(teacher.model)
    assert len(transformer_layers(result.model)) == 2
    saved = load_text_classifier(training.output_dir, device="cpu")
    assert saved.label_names == NAMES
    # Nothing but the student is in the file: no projector.
    fresh = random_twin(result.classifier)
    assert set(load_file(training.output_dir / "model.safetensors")) == set(fresh.model.state_dict())


@pytest.mark.slow
def test_every_recipe_makes_its_transfer_texts_where_the_data_have_none(teacher, data, training, stages):
    prune_and_heal(teacher, dataclasses.replace(data, transfer=()), training)
    ((_, train),) = stages
    assert len(train) == len(data.train.texts) + training.n_transfer
    assert train.labels[len(data.train.texts) :] == [-100] * training.n_transfer


@pytest.mark.slow
def test_distilbert_starts_from_alternating_layers_and_has_three_parts(teacher, data, training, stages):
    distilbert(teacher, data, training)
    ((config, _),) = stages
    assert config.temperature == 2.0
    soft = config.response_loss_weight * config.alpha
    task = config.response_loss_weight * (1 - config.alpha)
    assert (soft, task, config.cosine_loss_weight) == pytest.approx((5 / 8, 2 / 8, 1 / 8))
    student = transformer_layers(alternating_student(teacher).model)
    for own, others in zip(student, (0, 3), strict=True):
        for a, b in zip(own.parameters(), transformer_layers(teacher.model)[others].parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("switch", "changed"),
    [
        ({"soft_weight": 0.0}, {"alpha": 0.0, "response_loss_weight": 2 / 3}),
        ({"cosine_weight": 0.0}, {"cosine_loss_weight": 0.0, "response_loss_weight": 1.0}),
        ({"task_weight": 0.0}, {"alpha": 1.0}),
    ],
)
def test_distilberts_ablations_leave_a_part_out(teacher, data, training, stages, switch, changed):
    distilbert(teacher, data, training, **switch)
    ((config, _),) = stages
    for name, value in changed.items():
        assert getattr(config, name) == pytest.approx(value)


@pytest.mark.slow
def test_distilbert_from_random_weights_knows_nothing_of_the_teacher(teacher, data, training):
    slow = dataclasses.replace(training, learning_rate=1e-12)
    kept = distilbert(teacher, data, slow).model.state_dict()
    random = distilbert(
        teacher, data, dataclasses.replace(slow, output_dir=training.output_dir / "b"), from_teacher=False
    )
    weights = [name for name, value in kept.items() if value.dim() == 2]
    assert weights
    assert all(not torch.allclose(kept[name], random.model.state_dict()[name], atol=1e-3) for name in weights)


@pytest.mark.slow
def test_tinyberts_two_stages(teacher, data, training, stages):
    tinybert(teacher, data, training, hidden_size=16)
    (first, read), (second, _) = stages
    assert first.response_loss_weight == 0
    assert {name for name, weight in first.feature_weights.items() if weight} == {
        "hidden_loss",
        "attention_loss",
        "embedding_loss",
    }
    assert first.attention_target == "scores"
    assert first.layer_mapping == "uniform"
    assert len(read) == len(data.train.texts) + 8
    assert (second.temperature, second.alpha, second.uses_features) == (1.0, 1.0, False)


@pytest.mark.slow
def test_tinyberts_ablations(teacher, data, training, stages):
    tinybert(teacher, data, training, hidden_size=16, attention=False, augmentation=False)
    (first, read), (_, read_too) = stages
    assert first.feature_weights["attention_loss"] == 0 < first.feature_weights["hidden_loss"]
    assert len(read) == len(read_too) == len(data.train.texts)
    stages.clear()
    again = dataclasses.replace(training, output_dir=training.output_dir / "again")
    tinybert(teacher, data, again, hidden_size=16, attention=False, hidden=False, embeddings=False)
    assert [config.uses_features for config, _ in stages] == [False]


@pytest.mark.slow
def test_minilm_compares_only_the_last_layer(teacher, data, training, stages):
    minilm(teacher, data, training)
    (first, _), (second, read) = stages
    assert first.layer_mapping == ((1, 3),)
    assert (first.attention_target, first.relations) == ("distributions", ("values",))
    assert first.response_loss_weight == 0
    assert (second.alpha, second.uses_features) == (0.0, False)
    assert -100 not in read.labels


@pytest.mark.slow
def test_minilm_v2_takes_other_heads_and_version_1_does_not(teacher, data, training, stages):
    minilm(teacher, data, training, version=2, hidden_size=16, n_heads=2, relation_heads=8)
    config = stages[0][0]
    assert (config.relations, config.relation_heads) == (("queries", "keys", "values"), 8)
    assert not config.attention_matching
    with pytest.raises(ValueError, match="relation_heads"):
        minilm(teacher, data, training, hidden_size=16, n_heads=2)
    with pytest.raises(ValueError, match="version 2"):
        minilm(teacher, data, training, relation_heads=8)
    with pytest.raises(ValueError, match="3"):
        minilm(teacher, data, training, version=3)


@pytest.mark.slow
def test_the_data_driven_student_learns_labels_and_never_what_the_filters_dropped(teacher, data, training, stages):
    good = "my new graphics card shows nothing but a black picture on this old computer"
    leaked = data.test.texts[0]
    messages = [
        SyntheticMessage(good, NAMES[0]),
        SyntheticMessage(leaked, NAMES[1]),
        SyntheticMessage("short", NAMES[2]),
    ]
    result = data_driven(teacher, data, messages, training, min_confidence=0.0)
    ((config, train),) = stages
    assert config.alpha == 0
    assert train.teacher_logits is None
    assert len(train) == len(data.train.texts) + 1
    # The topic that the teacher finds likeliest, or the one that was asked for.
    found = int(predict_logits(teacher, [good]).argmax())
    asked = (found + 1) % len(NAMES)
    messages[0] = SyntheticMessage(good, NAMES[asked])
    again = dataclasses.replace(training, output_dir=training.output_dir / "again")
    data_driven(teacher, data, messages, again, min_confidence=0.0)
    as_asked = dataclasses.replace(training, output_dir=training.output_dir / "as asked")
    data_driven(teacher, data, messages, as_asked, min_confidence=0.0, relabel=False)
    assert [stage[1].labels[0] for stage in stages] == [found, found, asked]
    assert len(transformer_layers(result.model)) == 2
    with pytest.raises(ValueError, match="none of 2"):
        data_driven(teacher, data, messages[1:], training, min_confidence=0.0)


def test_prune_and_heal_learns_from_logits_alone_and_is_smaller(teacher, data, training, stages):
    result = prune_and_heal(teacher, data, training)
    ((config, train),) = stages
    assert (config.alpha, config.uses_features) == (1.0, False)
    assert train.teacher_logits is not None
    sizes = [sum(p.numel() for p in transformer_layers(m).parameters()) for m in (result.model, teacher.model)]
    assert sizes[0] < sizes[1] / 2


def test_the_baseline_is_random_and_sees_hard_labels_only(teacher, data, training, stages):
    hard_label_baseline(alternating_student(teacher), data, training)
    ((config, train),) = stages
    assert config.alpha == 0
    assert train.teacher_logits is None
    assert train.labels == data.train.labels


@pytest.mark.parametrize("random_weights", [True, False])
def test_the_baseline_starts_where_it_is_told_to(monkeypatch, teacher, data, training, random_weights):
    starts = []
    monkeypatch.setattr("distill_helpers.landmarks.stages.train_stage", lambda student, *_: starts.append(student))
    student = alternating_student(teacher)
    hard_label_baseline(student, data, training, random_weights=random_weights)
    pairs = zip(starts[0].model.parameters(), student.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) == (not random_weights)


@pytest.mark.slow
def test_a_live_teacher_and_cached_features_train_the_same_student(data, training, base_tokenizer):
    teacher = tiny_teacher("bert", base_tokenizer)
    kept = distilbert(teacher, data, training).model.state_dict()
    live = dataclasses.replace(training, live_teacher=True, output_dir=training.output_dir / "live")
    for name, value in distilbert(teacher, data, live).model.state_dict().items():
        # The cache holds fp16.
        assert torch.allclose(value, kept[name], atol=2e-3), name


def test_bad_weights_and_too_few_transfer_texts_are_refused(teacher, data, training):
    with pytest.raises(ValueError, match="positive"):
        distilbert(teacher, data, training, soft_weight=0.0, task_weight=0.0, cosine_weight=0.0)
    with pytest.raises(ValueError, match="40 transfer texts"):
        distilbert(teacher, data, dataclasses.replace(training, n_transfer=41))
