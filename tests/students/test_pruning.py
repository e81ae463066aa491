"""Pruning: importances checked by hand, and cuts that provably change nothing, or exactly the right thing."""

import copy
from itertools import pairwise

import pytest
import torch
from tiny_models import ARCHITECTURES, NAMES, assert_untouched, hooks_of, snapshot, tiny_model, tiny_teacher
from torch.nn import functional
from transformers import OPTConfig

from distill_helpers.models.architectures import (
    embedding_weight,
    feed_forward,
    feed_forward_size_of,
    transformer_layers,
)
from distill_helpers.models.batching import encode_texts
from distill_helpers.models.loading import load_text_classifier
from distill_helpers.models.text_models import TextClassifier, label_options, predict_logits
from distill_helpers.students.pruning import feed_forward_importance, layer_importance, prune
from distill_helpers.targets.features import precompute_teacher_features

TEXTS = ["the screen is black", "windows", "my mac does not start since the update of last week", "a card", "no sound"]


@pytest.fixture(params=ARCHITECTURES)
def kind(request):
    return request.param


@pytest.fixture
def teacher(kind, small_tokenizer):
    return tiny_teacher(kind, small_tokenizer)


def one_text_at_a_time(classifier, observe):
    """The concatenation over all texts, none of them padded, of what `observe` makes of a batch of one."""
    with torch.inference_mode():
        return torch.cat([observe(torch.tensor([ids])) for ids in encode_texts(classifier.tokenizer, TEXTS)])


def close_to(expected):
    return pytest.approx(expected, rel=1e-4, abs=1e-6)


# layer_importance


def test_layers_by_hand(teacher, kind):
    def one_minus_cosine(ids):
        states = teacher.model(ids, output_hidden_states=True).hidden_states
        pairs = [(a[0].double(), b[0].double()) for a, b in pairwise(states)]
        return torch.stack([1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)) for a, b in pairs], dim=-1)

    expected = one_text_at_a_time(teacher, one_minus_cosine).mean(dim=0).tolist()
    found = layer_importance(teacher, TEXTS)
    assert len(found) == 4
    assert min(found) > 0.01
    if kind == "llama":  # the last of its hidden states has passed through the final norm
        expected, found = expected[:-1], found[:-1]
    assert found == close_to(expected)


def test_a_layer_that_only_scales_has_none(small_tokenizer):
    teacher = tiny_teacher("llama", small_tokenizer)
    transformer_layers(teacher.model)[2].register_forward_hook(lambda module, args, output: 3 * args[0])
    importance = layer_importance(teacher, TEXTS)
    assert importance[2] == pytest.approx(0, abs=1e-6)
    assert min(importance[:2] + importance[3:]) > 0.01


def test_an_opposite_output_counts_2(small_tokenizer):
    teacher = tiny_teacher("llama", small_tokenizer)
    transformer_layers(teacher.model)[0].register_forward_hook(lambda module, args, output: -args[0])
    assert layer_importance(teacher, TEXTS)[0] == pytest.approx(2)


# feed_forward_importance


def test_neurons_by_hand(teacher, kind):
    inputs = []
    layers = transformer_layers(teacher.model)
    for layer in layers:
        first = feed_forward(layer).up[0]
        first.register_forward_pre_hook(lambda module, args: inputs.append(args[0][0].double()))

    def activations(ids):
        inputs.clear()
        teacher.model(ids)
        made = []
        for layer, states in zip(layers, inputs, strict=True):
            up = [states @ linear.weight.double().T + linear.bias.double() for linear in feed_forward(layer).up]
            made.append(functional.silu(up[0]) * up[1] if kind == "llama" else functional.gelu(up[0]))
        return torch.stack(made, dim=1).abs()

    expected = one_text_at_a_time(teacher, activations).mean(dim=0)
    found = feed_forward_importance(teacher, TEXTS)
    assert [tuple(importance.shape) for importance in found] == 4 * [(48,)]
    torch.testing.assert_close(torch.stack(found), expected, rtol=1e-4, atol=1e-6)


# both


def assert_padding_counts_for_nothing(teacher):
    layers, neurons = layer_importance(teacher, TEXTS), feed_forward_importance(teacher, TEXTS)
    # Without any padding:
    assert layer_importance(teacher, TEXTS, batch_size=1) == close_to(layers)
    for one, many in zip(feed_forward_importance(teacher, TEXTS, batch_size=1), neurons, strict=True):
        torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-6)
    # With something else as padding:
    with torch.no_grad():
        embedding_weight(teacher.model)[teacher.tokenizer.pad_token_id].normal_(std=5)
    assert layer_importance(teacher, TEXTS) == close_to(layers)
    for changed, many in zip(feed_forward_importance(teacher, TEXTS), neurons, strict=True):
        torch.testing.assert_close(changed, many, rtol=1e-4, atol=1e-6)


def test_padding_counts_for_nothing(teacher):
    assert_padding_counts_for_nothing(teacher)


def test_padding_on_the_left_counts_for_nothing(small_tokenizer, monkeypatch):
    # Of a decoder: it moves the tokens of an encoder to other positions, which is another input.
    monkeypatch.setattr(small_tokenizer, "padding_side", "left")
    assert_padding_counts_for_nothing(tiny_teacher("llama", small_tokenizer))


@pytest.mark.parametrize("importance", [layer_importance, feed_forward_importance])
def test_a_token_counts_once_whatever_the_batches(teacher, importance):
    # A mean of batch means would give the long text's tokens less weight than those of the short ones.
    many, two, one = (importance(teacher, TEXTS, batch_size=size) for size in (5, 2, 1))
    for other in (two, one):
        torch.testing.assert_close(torch.as_tensor(other[0]), torch.as_tensor(many[0]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("importance", [layer_importance, feed_forward_importance])
def test_one_forward_pass_that_leaves_nothing_behind(teacher, importance, monkeypatch):
    teacher.model.train()
    before = snapshot(teacher.model)
    batches = []
    body = type(teacher.model.base_model)
    forward = body.forward
    monkeypatch.setattr(
        body,
        "forward",
        lambda self, **batch: batches.append(len(batch["input_ids"])) or forward(self, **batch),
    )
    first = importance(teacher, TEXTS, batch_size=2)
    assert batches == [2, 2, 1]
    assert_untouched(teacher.model, before)
    torch.testing.assert_close(importance(teacher, TEXTS, batch_size=2), first, rtol=0, atol=0)  # no dropout
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        importance(teacher, TEXTS, batch_size=0)
    assert hooks_of(teacher.model) == 0


def test_hooks_are_removed_when_the_model_fails(teacher):
    class FailedError(Exception):
        pass

    def fail(*_):
        raise FailedError

    handle = transformer_layers(teacher.model)[1].register_forward_pre_hook(fail)
    with pytest.raises(FailedError):
        prune(teacher, TEXTS, n_layers=2, feed_forward_size=3)
    handle.remove()
    assert hooks_of(teacher.model) == 0


def test_importances_can_be_used_where_gradients_are(teacher):
    scale = torch.ones(48, dtype=torch.float64, requires_grad=True)
    (feed_forward_importance(teacher, TEXTS)[0] * scale).sum().backward()
    assert scale.grad.isfinite().all()


# prune


def make_identity(layer):
    """Nothing but the residual stream passes. BERT's norms stay; they change nothing that is normalised already."""
    with torch.no_grad():
        for name, module in layer.named_modules():
            if name.endswith(("output.dense", "attention.out_lin", "ffn.lin2", "o_proj", "down_proj")):
                for parameter in module.parameters():
                    parameter.zero_()


@pytest.mark.parametrize("identity", [0, 2, 3])
def test_the_layer_that_does_nothing_is_the_one_that_goes(teacher, identity):
    make_identity(transformer_layers(teacher.model)[identity])
    importance = layer_importance(teacher, TEXTS)
    assert importance[identity] == pytest.approx(0, abs=1e-6)
    student = prune(teacher, TEXTS, n_layers=3)
    assert len(transformer_layers(student.model)) == 3
    torch.testing.assert_close(predict_logits(student, TEXTS), predict_logits(teacher, TEXTS), atol=1e-4, rtol=1e-4)
    smaller = prune(teacher, TEXTS, n_layers=2)
    assert not torch.allclose(predict_logits(smaller, TEXTS), predict_logits(teacher, TEXTS), atol=1e-2)


def test_neurons_that_are_never_active_are_the_ones_that_go(teacher):
    generator = torch.Generator().manual_seed(3)
    for layer in transformer_layers(teacher.model):  # others in each layer
        dead = torch.randperm(48, generator=generator)[:12]
        with torch.no_grad():
            for linear in feed_forward(layer).up:
                linear.weight[dead] = 0
                linear.bias[dead] = 0
    student = prune(teacher, TEXTS, feed_forward_size=36)
    logits = predict_logits(teacher, TEXTS)
    torch.testing.assert_close(predict_logits(student, TEXTS), logits, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(predict_logits(prune(teacher, TEXTS, feed_forward_size=20), TEXTS), logits, atol=1e-2)


@pytest.mark.parametrize(
    "sizes", [{"n_layers": 4}, {"feed_forward_size": 48}, {"n_layers": 4, "feed_forward_size": 48}]
)
def test_pruned_to_its_full_size_it_is_the_teacher(teacher, sizes):
    student = prune(teacher, TEXTS, **sizes)
    assert torch.equal(predict_logits(student, TEXTS), predict_logits(teacher, TEXTS))


def test_each_kept_layer_keeps_its_own_most_important_neurons(teacher):
    layers = sorted(torch.tensor(layer_importance(teacher, TEXTS)).topk(2).indices.tolist())
    neurons = feed_forward_importance(teacher, TEXTS)
    student = prune(teacher, TEXTS, n_layers=2, feed_forward_size=10)
    for index, layer in zip(layers, transformer_layers(student.model), strict=True):
        kept = neurons[index].topk(10).indices.sort().values
        source, found = feed_forward(transformer_layers(teacher.model)[index]), feed_forward(layer)
        for before, after in zip(source.up, found.up, strict=True):
            assert torch.equal(after.weight, before.weight[kept])
            assert torch.equal(after.bias, before.bias[kept])
        assert torch.equal(found.down.weight, source.down.weight[:, kept])
        assert torch.equal(found.down.bias, source.down.bias)


def test_the_student_survives_saving(teacher, tmp_path):
    student = prune(teacher, TEXTS, n_layers=2, feed_forward_size=11)
    assert student.tokenizer is teacher.tokenizer
    assert student.label_names == teacher.label_names == NAMES
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    loaded = load_text_classifier(tmp_path, device="cpu")
    assert (loaded.model.config.num_hidden_layers, feed_forward_size_of(loaded.model.config)) == (2, 11)
    assert torch.equal(predict_logits(loaded, TEXTS), predict_logits(student, TEXTS))


def test_the_teacher_is_left_alone_and_the_student_is_free_of_hooks_and_can_learn(teacher):
    before = snapshot(teacher.model)
    student = prune(teacher, TEXTS, n_layers=3, feed_forward_size=7)
    assert hooks_of(student.model) == 0
    assert not student.model.training
    assert all(parameter.requires_grad for parameter in student.model.parameters())
    ids = torch.tensor(encode_texts(student.tokenizer, TEXTS[:1]))
    student.model(ids, labels=torch.tensor([1])).loss.backward()
    torch.optim.SGD(student.model.parameters(), lr=0.1).step()
    assert not torch.allclose(predict_logits(student, TEXTS), predict_logits(teacher, TEXTS))
    assert_untouched(teacher.model, before)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "n_layers and feed_forward_size are both None; give one of them or both"),
        ({"n_layers": 0}, "n_layers must lie between 1 and the teacher's 4, got 0"),
        ({"n_layers": 5}, "n_layers must lie between 1 and the teacher's 4, got 5"),
        ({"n_layers": -1, "feed_forward_size": 8}, "n_layers must .*, got -1"),
        ({"feed_forward_size": 0}, "feed_forward_size must lie between 1 and the teacher's 48, got 0"),
        ({"n_layers": 2, "feed_forward_size": 49}, "feed_forward_size must lie between 1 and the teacher's 48, got 49"),
    ],
)
def test_sizes_that_no_student_can_have_are_refused_before_any_work(teacher, sizes, message):
    teacher.model.register_forward_pre_hook(lambda *_: pytest.fail("the texts were read already"))
    with pytest.raises(ValueError, match=message):
        prune(teacher, TEXTS, **sizes)


@pytest.mark.parametrize("texts", [[], ["a text", " "]])
def test_texts_that_are_missing_are_refused(teacher, texts):
    with pytest.raises(ValueError, match="text"):
        prune(teacher, texts, n_layers=2)


def test_an_architecture_without_known_neurons_is_refused_but_can_lose_layers(small_tokenizer):
    teacher: TextClassifier = tiny_teacher("gpt2", small_tokenizer)
    with pytest.raises(TypeError, match="feed-forward part of GPT2Block is not known"):
        prune(teacher, TEXTS, feed_forward_size=8)
    student = prune(teacher, TEXTS, n_layers=3)
    assert student.model.config.num_hidden_layers == 3
    assert predict_logits(student, TEXTS).isfinite().all()


@pytest.mark.parametrize("measure", [layer_importance, feed_forward_importance])
def test_importance_reads_texts_up_to_max_length_alone(small_tokenizer, measure):
    teacher = tiny_teacher("bert", small_tokenizer)
    text = "the screen stays black after the update of the driver"
    ids = [*small_tokenizer(text)["input_ids"][:5], small_tokenizer.sep_token_id]
    start = small_tokenizer.decode(ids, skip_special_tokens=True)
    assert small_tokenizer(start)["input_ids"] == ids
    for cut, short, whole in zip(
        measure(teacher, [text], max_length=6), measure(teacher, [start]), measure(teacher, [text]), strict=True
    ):
        torch.testing.assert_close(torch.as_tensor(cut), torch.as_tensor(short), atol=1e-6, rtol=1e-6)
        assert not torch.allclose(torch.as_tensor(cut), torch.as_tensor(whole), atol=1e-4)


def decoder(kind, tokenizer):
    """A decoder with 40 learned positions, and a tokenizer that would let 200 tokens pass."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = 200
    if kind == "gpt2":
        return tiny_teacher("gpt2", tokenizer)
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=40,
        pad_token_id=tokenizer.pad_token_id,
        **label_options(NAMES),
    )
    return TextClassifier(tiny_model(config), tokenizer)


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_texts_longer_than_the_learned_positions_are_refused_with_their_row(small_tokenizer, kind, monkeypatch):
    teacher = decoder(kind, small_tokenizer)
    texts = ["no sound", "grey screen", "no sound " * 60]
    assert len(layer_importance(teacher, texts, max_length=40)) == 4
    assert len(transformer_layers(prune(teacher, texts, n_layers=2, max_length=40).model)) == 2
    names = ["hidden.0", "hidden.3"]
    features = precompute_teacher_features(teacher, texts, names, max_length=40, device="cpu", progress=False)
    assert max(map(len, features.token_ids)) == 40
    monkeypatch.setattr(teacher.model.base_model, "forward", None)  # nothing runs
    for refused in (
        lambda: layer_importance(teacher, texts),
        lambda: prune(teacher, texts, n_layers=2),
        lambda: precompute_teacher_features(teacher, texts, names, device="cpu", progress=False),
    ):
        with pytest.raises(ValueError, match=r"row 2: the text has .* tokens, and the model has 40 positions"):
            refused()
