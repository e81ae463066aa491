"""The feature terms of a configuration between two real models: which features, projectors, values and gradients."""

import pytest
import torch
from tiny_models import tiny_config, tiny_model

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.feature_losses import (
    attention_distribution_loss,
    attention_score_loss,
    cosine_loss,
    hidden_state_loss,
    relation_loss,
)
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.models.architectures import ModelShape, transformer_layers
from distill_helpers.models.capture import capture_features
from distill_helpers.models.features import EMBEDDINGS

ALL_RELATIONS = ("queries", "keys", "values")
TERMS = {
    "hidden_loss": {"intermediate_layers": True},
    "attention_loss": {"attention_matching": True},
    "embedding_loss": {"embedding_loss_weight": 1.0},
    "cosine_loss": {"cosine_loss_weight": 1.0},
    "relation_loss": {"relations": ALL_RELATIONS},
}
EVERY = pytest.mark.parametrize("name", TERMS)
EVERYTHING = {key: value for choices in TERMS.values() for key, value in choices.items()}


def tiny(kind, n_layers=4, *, width=32, heads=4, seed=0):
    config = tiny_config(kind, 60, n_layers)
    config.hidden_size = width
    config.num_attention_heads = heads
    if kind == "llama":
        config.num_key_value_heads, config.head_dim = heads // 2, width // heads
    return tiny_model(config, seed)


@pytest.fixture(params=["bert", "llama"])
def kind(request):
    return request.param


def batch_of(lengths=(7, 3, 5), side="right", longest=None, pad_id=0):
    longest = longest or max(lengths)
    ids, mask = torch.full((len(lengths), longest), pad_id), torch.zeros(len(lengths), longest, dtype=torch.long)
    for row, length in enumerate(lengths):
        tokens = torch.randint(2, 60, (length,), generator=torch.Generator().manual_seed(row))
        where = slice(0, length) if side == "right" else slice(longest - length, longest)
        ids[row, where], mask[row, where] = tokens, 1
    return {"input_ids": ids, "attention_mask": mask}


def build(student, teacher, seed=0, **choices):
    return FeatureTerms(DistillationConfig(**choices), ModelShape.of(student), ModelShape.of(teacher), seed)


def values_of(terms, student, teacher, batch, teacher_batch=None):
    with capture_features(student, terms.student_names) as own:
        student(**batch)
    with torch.no_grad(), capture_features(teacher, terms.teacher_names) as others:
        teacher(**(teacher_batch or batch))
    return terms(own, others, batch["attention_mask"])


# Values


@EVERY
def test_a_student_that_is_its_teacher_has_no_loss(kind, name):
    student, teacher = tiny(kind), tiny(kind)
    terms = build(student, teacher, **TERMS[name])
    assert len(terms.projectors) == 0
    values = values_of(terms, student, teacher, batch_of())
    assert list(values) == [name]
    assert values[name].shape == (3,)
    assert values[name].abs().max() < 1e-6
    other = values_of(terms, tiny(kind, seed=1), teacher, batch_of())[name]
    assert other.min() > 1e-3


def test_identical_models_have_no_loss_in_the_distributions_either(kind):
    student, teacher = tiny(kind), tiny(kind)
    choices = {"attention_matching": True, "attention_target": "distributions", "relations": ("values",)}
    values = values_of(build(student, teacher, **choices), student, teacher, batch_of())
    assert max(value.abs().max() for value in values.values()) < 1e-6


def test_values_are_means_over_the_mapped_layers(kind):
    student, teacher = tiny(kind, 2, seed=1), tiny(kind, 4)
    terms = build(student, teacher, **EVERYTHING, relation_heads=2)
    batch = batch_of()
    mask, causal = batch["attention_mask"], kind == "llama"
    found = values_of(terms, student, teacher, batch)
    with torch.no_grad(), capture_features(student) as s, capture_features(teacher) as t:
        student(**batch)
        teacher(**batch)

    def over_layers(loss):
        return (loss(0, 1) + loss(1, 3)) / 2

    expected = {
        "embedding_loss": hidden_state_loss(s[EMBEDDINGS], t[EMBEDDINGS], mask),
        "hidden_loss": over_layers(lambda i, j: hidden_state_loss(s[f"hidden.{i}"], t[f"hidden.{j}"], mask)),
        "cosine_loss": cosine_loss(s["hidden.1"], t["hidden.3"], mask),
        "attention_loss": over_layers(
            lambda i, j: attention_score_loss(s.attention_scores(i), t.attention_scores(j), mask, causal)
        ),
        "relation_loss": sum(
            over_layers(lambda i, j, kind=kind: relation_loss(s[f"{kind}.{i}"], t[f"{kind}.{j}"], mask, 2, causal))
            for kind in ALL_RELATIONS
        )
        / 3,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].detach(), value, msg=name)


def test_the_attention_target_decides_between_scores_and_distributions(kind):
    student, teacher = tiny(kind, 1, seed=1), tiny(kind, 1)
    batch = batch_of()
    with torch.no_grad(), capture_features(student) as s, capture_features(teacher) as t:
        student(**batch)
        teacher(**batch)
    for target, loss in {"scores": attention_score_loss, "distributions": attention_distribution_loss}.items():
        terms = build(student, teacher, attention_matching=True, attention_target=target)
        expected = loss(s.attention_scores(0), t.attention_scores(0), batch["attention_mask"], kind == "llama")
        torch.testing.assert_close(terms(s, t, batch["attention_mask"])["attention_loss"], expected)


def test_the_layer_mapping_decides_who_follows_whom():
    student, teacher = tiny("bert", 2, seed=1), tiny("bert", 4)
    for mapping, layers in {"uniform": (1, 3), "last": (2, 3), "alternating": (0, 3), ((0, 3), (1, 0)): (3, 0)}.items():
        terms = build(student, teacher, intermediate_layers=True, attention_matching=True, layer_mapping=mapping)
        hidden, keys, queries = ([f"{kind}.{j}" for j in layers] for kind in ("hidden", "keys", "queries"))
        assert terms.teacher_names == (*hidden, *keys, *queries)
        assert terms.student_names == tuple(f"{kind}.{i}" for kind in ("hidden", "keys", "queries") for i in (0, 1))


def test_the_last_layers_are_compared_whatever_the_mapping_says():
    terms = build(tiny("bert", 2), tiny("bert", 4), cosine_loss_weight=1.0, layer_mapping="alternating")
    assert (terms.student_names, terms.teacher_names) == (("hidden.1",), ("hidden.3",))


def test_only_what_the_terms_need_is_named():
    student, teacher = tiny("bert", 2), tiny("bert", 4)
    needs = {
        "hidden_loss": ("hidden.1", "hidden.3"),
        "attention_loss": ("keys.1", "keys.3", "queries.1", "queries.3"),
        "embedding_loss": (EMBEDDINGS,),
        "cosine_loss": ("hidden.3",),
        "relation_loss": ("keys.1", "keys.3", "queries.1", "queries.3", "values.1", "values.3"),
    }
    for name, choices in TERMS.items():
        assert build(student, teacher, **choices).teacher_names == needs[name]
    everything = build(student, teacher, **EVERYTHING)
    assert len(everything.teacher_names) == len(set(everything.teacher_names)) == 1 + 2 + 6


def test_a_teacher_layer_that_two_follow_is_named_once():
    terms = build(tiny("bert", 2), tiny("bert", 4), intermediate_layers=True, layer_mapping=((0, 3), (1, 3)))
    assert terms.teacher_names == ("hidden.3",)
    assert terms.student_names == ("hidden.0", "hidden.1")


# Padding


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_tokens_at_padding_do_not_matter(kind, side):
    student, teacher = tiny(kind, 2, seed=1), tiny(kind, 4)
    terms = build(student, teacher, **EVERYTHING)
    # The base models: a classifier of the Llama family looks for its padding token, whatever the mask says.
    before = values_of(terms, student.base_model, teacher.base_model, batch_of(side=side))
    # Other tokens there, and not the same ones for student and teacher.
    mine, theirs = batch_of(side=side, pad_id=41), batch_of(side=side, pad_id=17)
    after = values_of(terms, student.base_model, teacher.base_model, mine, theirs)
    assert len(after) == 5
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(("kind", "side"), [("bert", "right"), ("llama", "right"), ("llama", "left")])
def test_the_length_of_the_padding_does_not_matter(kind, side):
    # Not for BERT on the left: its positions are absolute, so that the model itself says something else.
    student, teacher = tiny(kind, 2, seed=1), tiny(kind, 4)
    terms = build(student, teacher, **EVERYTHING)
    short, long = (
        values_of(terms, student.base_model, teacher.base_model, batch_of(side=side, longest=longest))
        for longest in (7, 19)
    )
    alone = values_of(terms, student.base_model, teacher.base_model, batch_of(lengths=(7,)))
    for name, value in short.items():
        torch.testing.assert_close(long[name], value, atol=1e-5, rtol=1e-4, msg=name)
        torch.testing.assert_close(alone[name][0], value[0], atol=1e-5, rtol=1e-4, msg=name)


# Projectors


def test_projectors_are_there_for_unequal_widths_and_for_hidden_states_alone():
    narrow, wide = tiny("bert", 2, width=16), tiny("bert", 4)
    shapes = {
        "hidden_loss": ["hidden_0_to_hidden_1", "hidden_1_to_hidden_3"],
        "attention_loss": [],
        "embedding_loss": ["embeddings_to_embeddings"],
        "cosine_loss": ["hidden_1_to_hidden_3"],
        "relation_loss": [],
    }
    for name, choices in TERMS.items():
        terms = build(narrow, wide, **choices, relation_heads=4)
        assert sorted(terms.projectors) == shapes[name]
        assert {(p.in_features, p.out_features) for p in terms.projectors.values()} <= {(16, 32)}
        assert len(list(terms.parameters())) == 2 * len(shapes[name])  # registered, weight and bias
    assert len(build(narrow, wide, **EVERYTHING, relation_heads=4).projectors) == 3
    assert len(build(tiny("bert", 2), wide, **EVERYTHING).projectors) == 0


def test_a_layer_with_two_targets_has_two_projectors():
    terms = build(
        tiny("bert", 2, width=16),
        tiny("bert", 4),
        intermediate_layers=True,
        cosine_loss_weight=1.0,
        layer_mapping=((1, 0),),
    )
    assert sorted(terms.projectors) == ["hidden_1_to_hidden_0", "hidden_1_to_hidden_3"]
    assert terms.student_names == ("hidden.1",)
    assert terms.teacher_names == ("hidden.0", "hidden.3")


def test_a_wider_student_is_projected_too():
    student, teacher = tiny("bert", 2, width=48), tiny("bert", 4)
    terms = build(student, teacher, intermediate_layers=True)
    assert values_of(terms, student, teacher, batch_of())["hidden_loss"].min() > 0


def test_a_projected_value_is_the_loss_of_the_projection():
    student, teacher = tiny("bert", 2, width=16), tiny("bert", 4)
    terms = build(student, teacher, intermediate_layers=True, embedding_loss_weight=1.0, cosine_loss_weight=1.0)
    batch = batch_of()
    with torch.no_grad(), capture_features(student) as s, capture_features(teacher) as t:
        student(**batch)
        teacher(**batch)
        found = terms(s, t, batch["attention_mask"])
        projectors = terms.projectors
        first = hidden_state_loss(
            projectors["hidden_0_to_hidden_1"](s["hidden.0"]), t["hidden.1"], batch["attention_mask"]
        )
        last = projectors["hidden_1_to_hidden_3"](s["hidden.1"])
        second = hidden_state_loss(last, t["hidden.3"], batch["attention_mask"])
        embeddings = projectors["embeddings_to_embeddings"](s[EMBEDDINGS])
    torch.testing.assert_close(found["hidden_loss"], (first + second) / 2)
    torch.testing.assert_close(found["cosine_loss"], cosine_loss(last, t["hidden.3"], batch["attention_mask"]))
    torch.testing.assert_close(
        found["embedding_loss"], hidden_state_loss(embeddings, t[EMBEDDINGS], batch["attention_mask"])
    )


def test_the_seed_decides_the_projectors_and_nothing_else():
    narrow, wide = tiny("bert", 2, width=16), tiny("bert", 4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    built = [build(narrow, wide, seed=seed, intermediate_layers=True) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    weights = [terms.projectors["hidden_0_to_hidden_1"].weight for terms in built]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], built[0].projectors["hidden_1_to_hidden_3"].weight)


# Gradients


def layer_gradients(model):
    """For each layer, the parameters by name and whether any gradient arrived there."""
    return [
        {name: p.grad is not None and bool(p.grad.abs().sum() > 0) for name, p in layer.named_parameters()}
        for layer in transformer_layers(model)
    ]


@EVERY
def test_gradients_reach_projectors_and_every_layer_that_the_term_claims_and_never_the_teacher(kind, name):
    student, teacher = tiny(kind, 2, width=16, seed=1), tiny(kind, 4)
    terms = build(student, teacher, **TERMS[name], relation_heads=2)
    with (
        capture_features(student, terms.student_names) as own,
        capture_features(teacher, terms.teacher_names) as others,
    ):
        student(**batch_of())
        teacher(**batch_of())  # with a graph: the loss itself must cut it
    values = terms(own, others, batch_of()["attention_mask"])
    values[name].sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.get_input_embeddings().weight.grad.abs().sum() > 0
    for parameter in terms.parameters():
        assert parameter.grad.abs().sum() > 0
    first, last = layer_gradients(student)
    if name == "embedding_loss":
        assert not any(first.values())
        assert not any(last.values())
        return
    matrices = [part for part in first if part.endswith("weight") and "norm" not in part.lower()]
    assert len(matrices) >= 6
    assert all(first[part] for part in matrices)
    # Of the last layer, relations and scores see what makes queries and keys (and values).
    seen = {"attention_loss": ("query", "key", "q_proj", "k_proj")}
    seen["relation_loss"] = (*seen["attention_loss"], "value", "v_proj")
    inside = [part for part in matrices if name not in seen or any(word in part for word in seen[name])]
    assert len(inside) >= 2
    assert all(last[part] for part in inside)


def test_the_repr_is_one_line_that_names_terms_layers_and_projectors():
    wide, narrow, narrower = (ModelShape(2, width, 2) for width in (8, 6, 4))
    every = DistillationConfig(**EVERYTHING)
    assert repr(FeatureTerms(every, wide, wide)) == (
        "FeatureTerms(hidden_loss, attention_loss, embedding_loss, cosine_loss, relation_loss, layers ((0, 0), (1, 1)))"
    )
    one = DistillationConfig(embedding_loss_weight=1.0)
    assert repr(FeatureTerms(one, narrow, wide)) == "FeatureTerms(embedding_loss, 1 projector from width 6 to 8)"
    hidden = DistillationConfig(intermediate_layers=True)
    shown = "FeatureTerms(hidden_loss, layers ((0, 0), (1, 1)), 2 projectors from width 4 to 8)"
    assert repr(FeatureTerms(hidden, narrower, wide)) == shown


# What is refused


@pytest.mark.parametrize("choices", [TERMS["attention_loss"], {"relations": ("values",)}])
def test_unequal_heads_one_by_one_are_refused_and_the_error_names_the_remedy(choices):
    with pytest.raises(ValueError, match=r"the student has 2 attention heads, the teacher 4.*`relations` with"):
        build(tiny("bert", 2, heads=2), tiny("bert", 4), **choices)


def test_unequal_heads_are_no_matter_to_the_other_terms():
    student, teacher = tiny("bert", 2, width=16, heads=2, seed=1), tiny("bert", 4)
    choices = EVERYTHING | {"attention_matching": False}
    values = values_of(build(student, teacher, **choices, relation_heads=8), student, teacher, batch_of())
    assert list(values) == ["embedding_loss", "hidden_loss", "cosine_loss", "relation_loss"]
    assert all(value.min() > 0 for value in values.values())


def test_a_map_that_the_models_do_not_allow_is_refused():
    student, teacher = tiny("bert", 3), tiny("bert", 4)
    for name in ("hidden_loss", "attention_loss", "relation_loss"):
        with pytest.raises(ValueError, match="4 / 3 is none"):
            build(student, teacher, **TERMS[name])
    build(student, teacher, embedding_loss_weight=1.0, cosine_loss_weight=1.0)  # these need no map


def test_shapes_are_read_from_any_architecture():
    for kind in ("bert", "distilbert", "llama", "gpt2"):
        assert ModelShape.of(tiny_model(tiny_config(kind, 60, 3))) == (3, 32, 4)
