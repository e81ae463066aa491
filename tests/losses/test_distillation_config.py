"""The choices of a configuration: which are refused, which terms they turn on, and the way to JSON and back."""

import dataclasses
import inspect
import json
import math

import pytest

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.prediction_tasks import PredictionTask


@pytest.mark.parametrize(
    ("choices", "error", "message"),
    [
        ({"temperature": 0}, ValueError, "temperature.*got 0"),
        ({"temperature": -1}, ValueError, "temperature.*got -1"),
        ({"temperature": math.nan}, ValueError, "temperature.*got nan"),
        ({"temperature": math.inf}, ValueError, "temperature.*got inf"),
        ({"temperature": "4"}, ValueError, "temperature.*got '4'"),
        ({"temperature": None}, ValueError, "temperature.*got None"),
        ({"alpha": -0.1}, ValueError, r"alpha.*\[0, 1\].*-0.1"),
        ({"alpha": 1.01}, ValueError, "alpha.*1.01"),
        ({"alpha": math.nan}, ValueError, "alpha.*nan"),
        ({"alpha": "0.5"}, ValueError, "alpha.*'0.5'"),
        ({"chunk_size": 0}, ValueError, "chunk_size.*got 0"),
        ({"chunk_size": -2}, ValueError, "chunk_size.*got -2"),
        ({"divergence": "kl"}, ValueError, "'kl'.*forward_kl"),
        ({"divergence_options": {"beta": 0.5}}, TypeError, "beta"),
        ({"divergence": "generalized_jsd", "divergence_options": {"beta": 2}}, ValueError, "beta.*got 2"),
        ({"divergence": "skew_kl", "divergence_options": {"skew": 1.0}}, ValueError, "skew.*got 1.0"),
        ({"divergence": "skew_kl", "divergence_options": {"slant": 0.5}}, TypeError, "slant"),
        ({"response_loss_weight": -1}, ValueError, "response_loss_weight.*got -1"),
        ({"hidden_loss_weight": -0.5}, ValueError, r"hidden_loss_weight.*got -0\.5"),
        ({"attention_loss_weight": math.nan}, ValueError, "attention_loss_weight.*got nan"),
        ({"embedding_loss_weight": math.inf}, ValueError, "embedding_loss_weight.*got inf"),
        ({"cosine_loss_weight": "1"}, ValueError, "cosine_loss_weight.*got '1'"),
        ({"relation_loss_weight": None}, ValueError, "relation_loss_weight.*got None"),
        ({"attention_target": "probabilities"}, ValueError, "attention_target.*scores.*got 'probabilities'"),
        ({"layer_mapping": "first"}, ValueError, "unknown layer mapping 'first'"),
        ({"layer_mapping": ((0, 1), (0, 2))}, ValueError, "stands twice"),
        ({"relations": ("scores",)}, ValueError, r"relations must be a tuple.*\('scores',\)"),
        ({"relations": "values"}, ValueError, "relations must be a tuple.*'values'"),
        ({"relation_heads": 0}, ValueError, "relation_heads.*got 0"),
        ({"task": "multilabel"}, ValueError, "task must be one of.*multi_label.*got 'multilabel'"),
        ({"task": None}, ValueError, "task must be one of.*got None"),
        ({"task": ["multi_label"]}, ValueError, "task must be one of.*got"),
        ({"task": "token_classification", "causal": True}, ValueError, "causal=True.*leave causal=False"),
        ({"task": "multi_label", "causal": True}, ValueError, "causal=True.*leave causal=False"),
        ({"task": "regression", "temperature": 1.0, "causal": True}, ValueError, "causal=True.*leave causal=False"),
        ({"task": "regression"}, ValueError, r"no softmax.*temperature=2\.0; write.*temperature=1\.0"),
        ({"task": "regression", "temperature": 4.0, "alpha": 0.0}, ValueError, "no softmax"),
        (
            {"task": "regression", "temperature": 1.0, "divergence": "reverse_kl"},
            ValueError,
            "squared error, not by divergence='reverse_kl'",
        ),
        ({"response_loss_weight": 0}, ValueError, "nothing to learn from"),
        ({"response_loss_weight": 0, "hidden_loss_weight": 5.0}, ValueError, "nothing to learn from"),
        (
            {"response_loss_weight": 0, "intermediate_layers": True, "hidden_loss_weight": 0},
            ValueError,
            "nothing to learn from",
        ),
    ],
)
def test_a_bad_choice_is_refused_when_it_is_made(choices, error, message):
    with pytest.raises(error, match=message):
        DistillationConfig(**choices)


def test_a_configuration_cannot_be_changed_behind_its_checks():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DistillationConfig().alpha = 2


OFF = {"hidden_loss": 0, "attention_loss": 0, "embedding_loss": 0, "cosine_loss": 0, "relation_loss": 0}


def test_features_are_off_unless_they_are_asked_for():
    assert DistillationConfig().feature_weights == OFF
    assert not DistillationConfig().uses_features
    # A weight alone turns on only what has no switch of its own.
    silent = DistillationConfig(hidden_loss_weight=3.0, attention_loss_weight=3.0, relation_loss_weight=3.0)
    assert silent.feature_weights == OFF


@pytest.mark.parametrize(
    ("choices", "weights"),
    [
        ({"intermediate_layers": True}, {"hidden_loss": 1}),
        ({"intermediate_layers": True, "hidden_loss_weight": 0.5}, {"hidden_loss": 0.5}),
        ({"attention_matching": True, "attention_loss_weight": 2.0}, {"attention_loss": 2}),
        ({"embedding_loss_weight": 0.1}, {"embedding_loss": 0.1}),
        ({"cosine_loss_weight": 0.2}, {"cosine_loss": 0.2}),
        ({"relations": ("values",)}, {"relation_loss": 1}),
        ({"relations": ("queries", "keys"), "relation_loss_weight": 4.0}, {"relation_loss": 4}),
    ],
)
def test_a_term_is_turned_on_with_its_weight(choices, weights):
    for response in ({}, {"response_loss_weight": 0}):
        config = DistillationConfig(**choices, **response)
        assert config.feature_weights == OFF | weights
        assert config.uses_features


def test_teacher_logits_are_used_unless_alpha_or_the_response_is_0():
    assert DistillationConfig(alpha=0.1).uses_teacher_logits
    assert not DistillationConfig(alpha=0).uses_teacher_logits
    assert not DistillationConfig(response_loss_weight=0, cosine_loss_weight=1.0).uses_teacher_logits


def test_a_switch_with_weight_0_is_off():
    for switch, weight in [
        ({"intermediate_layers": True}, "hidden_loss_weight"),
        ({"attention_matching": True}, "attention_loss_weight"),
        ({"relations": ("values",)}, "relation_loss_weight"),
    ]:
        assert not DistillationConfig(**switch, **{weight: 0}).uses_features


def test_a_configuration_survives_the_way_through_json():
    config = DistillationConfig(
        intermediate_layers=True, layer_mapping=((0, 1), (1, 3)), relations=("keys", "values"), relation_heads=4
    )
    again = DistillationConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config
    assert repr(again) == repr(config)


def test_a_task_may_be_named_by_the_task_of_a_model():
    config = DistillationConfig(task=PredictionTask.MULTI_LABEL)
    assert config == DistillationConfig(task="multi_label")
    assert repr(config) == "DistillationConfig(task='multi_label')"
    assert json.loads(json.dumps(dataclasses.asdict(config)))["task"] == "multi_label"


def test_the_repr_is_one_line_with_what_differs_from_the_defaults():
    assert repr(DistillationConfig()) == "DistillationConfig()"
    assert repr(DistillationConfig(temperature=2.0, alpha=0.5)) == "DistillationConfig(alpha=0.5)"
    config = DistillationConfig(
        divergence="skew_kl",
        divergence_options={"skew": 0.2},
        causal=True,
        layer_mapping=((0, 1),),
        relations=("keys",),
    )
    assert repr(config) == (
        "DistillationConfig(divergence='skew_kl', divergence_options={'skew': 0.2}, causal=True,"
        " layer_mapping=((0, 1),), relations=('keys',))"
    )
    assert eval(repr(config)) == config


def test_every_choice_stands_in_the_docstring():
    listed = inspect.getdoc(DistillationConfig).splitlines()  # Python 3.13 takes the indentation away by itself
    for choice in dataclasses.fields(DistillationConfig):
        assert any(line.startswith(f"    {choice.name}: ") for line in listed)
