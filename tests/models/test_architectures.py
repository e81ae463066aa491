"""Architectures: the right parts are found, and what is left after a cut is numbered and sized as if made that way."""

import pytest
import torch
from tiny_models import ARCHITECTURES, tiny_config, tiny_model
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BartConfig,
)

from distill_helpers.models.architectures import (
    embedding_weight,
    feed_forward,
    feed_forward_size_of,
    keep_layers,
    keep_neurons,
    set_feed_forward_size,
    transformer_layers,
)


@pytest.fixture
def make():
    return lambda kind, n_layers=4: tiny_model(tiny_config(kind, 60, n_layers))


# transformer_layers


def test_the_layers_are_found_wherever_they_are_kept(make):
    assert transformer_layers(bert := make("bert")) is bert.bert.encoder.layer
    assert transformer_layers(distilbert := make("distilbert")) is distilbert.distilbert.transformer.layer
    assert transformer_layers(llama := make("llama")) is llama.model.layers
    assert transformer_layers(gpt2 := make("gpt2")) is gpt2.transformer.h


@pytest.mark.parametrize(("encoder", "decoder"), [(2, 2), (2, 3)])
def test_an_encoder_decoder_is_refused_even_where_one_list_fits(encoder, decoder):
    config = BartConfig(
        vocab_size=60, d_model=16, encoder_layers=encoder, decoder_layers=decoder, encoder_ffn_dim=8, decoder_ffn_dim=8
    )
    with pytest.raises(TypeError, match="BartForSequenceClassification has an encoder and a decoder"):
        transformer_layers(AutoModelForSequenceClassification.from_config(config))


def test_layers_that_share_their_weights_are_refused():
    config = AlbertConfig(
        vocab_size=60,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=8,
    )
    with pytest.raises(TypeError, match="AlbertForSequenceClassification has 0 lists of 3 layers"):
        transformer_layers(AutoModelForSequenceClassification.from_config(config))


# keep_layers


@pytest.mark.parametrize("kind", [*ARCHITECTURES, "qwen2", "gpt2"])
def test_what_is_kept_is_numbered_from_0(make, kind):
    model = make(kind)
    expected = [transformer_layers(model)[i] for i in (1, 3)]
    keep_layers(model, [1, 3])
    assert list(transformer_layers(model)) == expected
    assert model.config.num_hidden_layers == 2
    for number, layer in enumerate(transformer_layers(model)):
        assert {m.layer_idx for m in layer.modules() if hasattr(m, "layer_idx")} <= {number}


def test_lists_with_an_entry_per_layer_are_cut_and_other_lists_are_not(make):
    model = make("qwen2")
    assert model.config.layer_types == ["full_attention"] + 3 * ["sliding_attention"]
    keep_layers(model, [0, 3])
    assert model.config.layer_types == ["full_attention", "sliding_attention"]
    assert model.config.eos_token_id == [5, 6, 7, 8]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_cut_decoder_reads_on_from_its_cache(make, kind):
    model = make(kind)
    keep_layers(model, [1, 3])
    ids = torch.arange(10, 22)[None]
    with torch.inference_mode():
        whole = model.model(ids).last_hidden_state
        first = model.model(ids[:, :7], use_cache=True)
        rest = model.model(ids[:, 7:], past_key_values=first.past_key_values, use_cache=True)
    assert len(rest.past_key_values) == 2
    torch.testing.assert_close(torch.cat([first.last_hidden_state, rest.last_hidden_state], 1), whole)


# feed_forward, keep_neurons


def test_the_feed_forward_parts_of_each_architecture(make):
    bert, distilbert, llama = (transformer_layers(make(kind))[0] for kind in ARCHITECTURES)
    assert feed_forward(bert) == ((bert.intermediate.dense,), bert.output.dense)
    assert feed_forward(distilbert) == ((distilbert.ffn.lin1,), distilbert.ffn.lin2)
    assert feed_forward(llama) == ((llama.mlp.gate_proj, llama.mlp.up_proj), llama.mlp.down_proj)


def test_an_unknown_feed_forward_part_is_refused(make):
    gpt2 = make("gpt2")
    with pytest.raises(TypeError, match="feed-forward part of GPT2Block is not known; use an encoder of the BERT"):
        feed_forward(transformer_layers(gpt2)[0])
    with pytest.raises(TypeError, match="GPT2Config has none of intermediate_size, hidden_dim, d_ff"):
        feed_forward_size_of(gpt2.config)


def run_feed_forward(kind, layer, states):
    """The feed-forward half alone, with its residual and norm where the architecture has them in it."""
    with torch.inference_mode():
        match kind:
            case "bert":
                return layer.output(layer.intermediate(states), states)
            case "distilbert":
                return layer.ffn(states)
        return layer.mlp(states)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_order_of_neurons_does_not_matter(make, kind):
    # Any two of gate, up, down and their biases that were cut differently would show.
    layer = transformer_layers(make(kind))[1]
    states = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    before = run_feed_forward(kind, layer, states)
    keep_neurons(layer, torch.randperm(48, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(run_feed_forward(kind, layer, states), before)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_neurons_that_nothing_reads_can_go(make, kind):
    layer = transformer_layers(make(kind))[1]
    states = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    unread = torch.tensor([0, 7, 8, 30, 47])
    with torch.no_grad():
        feed_forward(layer).down.weight[:, unread] = 0
    before = run_feed_forward(kind, layer, states)
    kept = torch.tensor([i for i in range(48) if i not in unread])
    keep_neurons(layer, kept)
    torch.testing.assert_close(run_feed_forward(kind, layer, states), before, atol=1e-6, rtol=1e-6)
    keep_neurons(layer, torch.arange(42))  # one that is read
    assert not torch.allclose(run_feed_forward(kind, layer, states), before, atol=1e-3)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_sizes_follow_and_frozen_weights_stay_frozen(make, kind):
    model = make(kind)
    layer, other = transformer_layers(model)[:2]
    up, down = feed_forward(layer)
    up[0].weight.requires_grad_(False)
    keep_neurons(layer, torch.tensor([3, 5, 9]))
    assert {(linear.in_features, linear.out_features) for linear in up} == {(32, 3)}
    assert (down.in_features, down.out_features) == (3, 32)
    assert {tuple(linear.weight.shape) for linear in up} == {(3, 32)}
    assert {tuple(linear.bias.shape) for linear in up} == {(3,)}
    assert (down.weight.shape, down.bias.shape) == ((32, 3), (32,))
    assert not up[0].weight.requires_grad
    assert up[0].bias.requires_grad
    assert down.weight.requires_grad
    assert getattr(getattr(layer, "mlp", None), "intermediate_size", 3) == 3
    assert feed_forward(other).down.in_features == 48
    assert feed_forward_size_of(model.config) == 48
    set_feed_forward_size(model.config, 3)
    assert feed_forward_size_of(model.config) == 3
    assert 3 in (getattr(model.config, "intermediate_size", None), getattr(model.config, "hidden_dim", None))


def test_the_embedding_is_the_parameter_itself(make_classifier):
    model = make_classifier().model
    with torch.no_grad():
        embedding_weight(model)[0] = 7
    assert (model.bert.embeddings.word_embeddings.weight[0] == 7).all()
