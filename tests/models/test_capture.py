"""What is captured is what the model itself computed; the model computes the same with it, and nothing stays behind."""

import copy
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_models import hooks_of, tiny_config, tiny_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    DebertaV2Config,
    ElectraConfig,
    Gemma2Config,
    GPT2Config,
    MPNetConfig,
    RobertaConfig,
)

from distill_helpers.models import capture
from distill_helpers.models.architectures import transformer_layers
from distill_helpers.models.capture import capture_features, watch
from distill_helpers.models.features import EMBEDDINGS, attention_pairs

ENCODERS = ("bert", "distilbert", "roberta", "electra")
DECODERS = ("llama", "gpt2")
UNSUPPORTED = ("mpnet", "deberta-v2")
KINDS = (*ENCODERS, *DECODERS)
HEADS = 4


def tiny(kind, n_layers=3, seed=0):
    usual = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": n_layers, "num_attention_heads": HEADS}
    usual |= {"vocab_size": 60, "pad_token_id": 0, "max_position_embeddings": 40, "initializer_range": 0.2}
    configs = {"roberta": RobertaConfig, "mpnet": MPNetConfig, "deberta-v2": DebertaV2Config}
    if kind == "electra":  # its embeddings are narrower than its layers
        config = ElectraConfig(**usual, embedding_size=16)
    elif kind in configs:
        config = configs[kind](**usual)
    else:
        config = tiny_config(kind, 60, n_layers)
    return tiny_model(config, seed)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    return tiny(kind)


def batch_of(side="right", lengths=(7, 3, 5)):
    """Random tokens, the first message of full length, padded on one side."""
    ids = torch.randint(2, 60, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    mask = mask.flip(1) if side == "left" else mask
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


def configs_of(model):
    found = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    return list(found.values())


def state_of(model):
    """Everything that a capture touches."""
    return [c._attn_implementation for c in configs_of(model)], model.config.to_dict(), hooks_of(model)


def assert_nothing_left(model, before):
    assert state_of(model) == before
    assert before[2] == 0
    assert len(capture._recorders) == 0
    assert not [name for name in before[0] if name.startswith("distill_helpers")]


# What is captured


def final_norm(kind, model):
    return {"llama": lambda: model.model.norm, "gpt2": lambda: model.transformer.ln_f}.get(kind, nn.Identity)()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_hidden_states_and_attention_are_the_models_own(kind, model, side, implementation):
    batch = batch_of(side)
    real = batch["attention_mask"].bool()
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        expected = reference(**batch, output_hidden_states=True, output_attentions=True)
        with capture_features(model) as features:
            model(**batch)
    assert len(expected.attentions) == 3  # "eager" gave them; with SDPA there would be none to compare
    torch.testing.assert_close(features[EMBEDDINGS], expected.hidden_states[0])
    for i in range(3):
        state = features[f"hidden.{i}"]
        if i == 2:  # the model's own last one is behind the norm
            state = final_norm(kind, model)(state)
        torch.testing.assert_close(state[real], expected.hidden_states[i + 1][real], atol=1e-5, rtol=1e-4)
        pairs = attention_pairs(batch["attention_mask"], kind in DECODERS)
        found = features.attention(i, batch["attention_mask"])
        assert found.shape == (3, HEADS, 7, 7)
        torch.testing.assert_close(found, expected.attentions[i] * pairs, atol=1e-5, rtol=1e-4)
        assert found.masked_select(pairs).std() > 0.02  # not uniform, which any scores would give
    assert features.causal == (kind in DECODERS)
    assert features.scaling == pytest.approx(8**-0.5)


def test_the_values_are_those_that_the_attention_mixes(kind, model):
    projections = {
        "bert": "bert.encoder.layer.1.attention.self.value",
        "distilbert": "distilbert.transformer.layer.1.attention.v_lin",
        "roberta": "roberta.encoder.layer.1.attention.self.value",
        "electra": "electra.encoder.layer.1.attention.self.value",
        "llama": "model.layers.1.self_attn.v_proj",
        "gpt2": "transformer.h.1.attn.c_attn",
    }
    name = projections[kind]
    with torch.no_grad(), capture_features(model, ["values.1", "queries.1"], modules=[name]) as features:
        model(**batch_of())
    heads = 2 if kind == "llama" else HEADS  # grouped queries: two heads share keys and values
    expected = features[name][..., -8 * heads :]  # GPT-2's projection holds queries, keys and values
    assert torch.equal(features["values.1"], expected.unflatten(-1, (heads, 8)).transpose(1, 2))
    assert features["queries.1"].shape == (3, HEADS, 7, 8)


def test_gradients_flow_through_what_is_captured(kind, model):
    with capture_features(model) as features:
        model(**batch_of())
    for name in (EMBEDDINGS, "hidden.1", "queries.1", "keys.1", "values.1"):
        model.zero_grad()
        features[name].square().sum().backward(retain_graph=True)
        assert model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_only_what_is_named_is_kept_and_the_latest_pass_replaces_the_one_before(model):
    with torch.no_grad(), capture_features(model, ["hidden.1", "keys.2"]) as features:
        assert features.tensors == {}
        with pytest.raises(KeyError, match=r"'hidden\.1' was not captured; there are \[\]. Run the model inside"):
            features["hidden.1"]
        model(**batch_of())
        first = features["hidden.1"]
        assert set(features.tensors) == {"hidden.1", "keys.2"}
        model(**batch_of(lengths=(4, 2)))
    assert features["hidden.1"].shape == (2, 4, 32)
    assert first.shape == (3, 7, 32)
    with pytest.raises(KeyError, match=r"'hidden\.0' was not captured; there are \['hidden\.1', 'keys\.2'\]"):
        features["hidden.0"]


# The model's own work


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_outputs_and_gradients_are_the_same_bits_with_and_without(model, implementation):
    model.set_attn_implementation(implementation)
    model.train()  # dropout included
    results = []
    for names in (None, ["hidden.0"], ["queries.2"], "none"):
        model.zero_grad()
        torch.manual_seed(0)
        if names == "none":
            logits = model(**batch_of()).logits
        else:
            with capture_features(model, names):
                logits = model(**batch_of()).logits
        logits.square().sum().backward()
        results.append((logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    for logits, gradients in results[:-1]:
        assert torch.equal(logits, results[-1][0])
        assert len(gradients) > 10
        assert all(map(torch.equal, gradients, results[-1][1]))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_nothing_is_left_on_the_model(model, implementation):
    model.set_attn_implementation(implementation)
    before = state_of(model)
    with capture_features(model):
        assert hooks_of(model) > 0
        model(**batch_of())
    assert_nothing_left(model, before)


def test_nothing_is_left_after_an_exception(model):
    before = state_of(model)
    with pytest.raises(KeyboardInterrupt), capture_features(model):
        raise KeyboardInterrupt
    assert_nothing_left(model, before)
    with pytest.raises(IndexError), capture_features(model):
        model(input_ids=torch.tensor([[999]]))
    assert_nothing_left(model, before)
    with pytest.raises(ValueError, match=r"has no 'hidden\.3'"), capture_features(model, ["hidden.0", "hidden.3"]):
        pass
    assert_nothing_left(model, before)


def test_a_model_that_was_captured_is_saved_as_it_was(model, tmp_path):
    model.save_pretrained(tmp_path / "before")
    with capture_features(model):
        model(**batch_of())
        model.save_pretrained(tmp_path / "within")
    model.save_pretrained(tmp_path / "after")
    configs = [(tmp_path / name / "config.json").read_text() for name in ("before", "within", "after")]
    assert configs[0] == configs[1] == configs[2]


# Watching without keeping


def test_watching_hands_over_what_goes_into_each_module_and_what_comes_out(kind, model):
    before, seen = state_of(model), []
    with torch.no_grad(), capture_features(model) as features:
        with watch(transformer_layers(model), lambda *observed: seen.append(observed)):
            model(**batch_of())
        model(**batch_of())  # after the block nothing more is seen
        expected = [features[EMBEDDINGS], *(features[f"hidden.{i}"] for i in range(3))]
    assert [index for index, _, _ in seen] == [0, 1, 2]
    for index, states, output in seen:
        assert torch.equal(states, expected[index])
        assert torch.equal(output, expected[index + 1])
    assert_nothing_left(model, before)


def test_watching_keeps_no_tensor(model):
    outputs = []

    def observe(index, states, output):
        assert all(reference() is None for reference in outputs[:-1])  # the last output is this layer's input
        outputs.append(weakref.ref(output))

    with torch.inference_mode(), watch(transformer_layers(model), observe):
        model(**batch_of())
    assert len(outputs) == 3


def test_watching_sees_this_thread_alone_and_leaves_nothing_after_an_exception(model):
    before, seen = state_of(model), []
    layers = transformer_layers(model)
    with watch(layers, lambda index, *_: seen.append(index)), ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: model(**batch_of())).result()
    assert seen == []
    with pytest.raises(KeyboardInterrupt), watch(layers, lambda index, *_: seen.append(index)):
        raise KeyboardInterrupt
    assert_nothing_left(model, before)


# Parts of any module


class Pair(nn.Module):
    def forward(self, x):
        return x + 1, x + 2


def test_parts_of_a_plain_module_by_their_names():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))
    x = torch.randn(5, 3)
    with capture_features(net, modules=["0", "2.0"]) as features:
        out = net(x)
    assert set(features.tensors) == {"0", "2.0"}
    assert torch.equal(features["0"], net[0](x))
    assert features["2.0"] is out
    assert hooks_of(net) == 0


def test_of_a_tuple_the_first_is_kept():
    net = nn.Sequential(Pair())
    with capture_features(net, modules=["0"]) as features:
        net(torch.zeros(2))
    assert features["0"].tolist() == [1, 1]


def test_parts_of_a_transformer_alone_leave_its_attention_alone(model):
    before = state_of(model)
    name = next(name for name, part in model.named_modules() if isinstance(part, nn.Embedding))
    with capture_features(model, modules=[name]) as features:
        assert state_of(model)[0] == before[0]
        model(**batch_of())
    assert list(features.tensors) == [name]
    assert_nothing_left(model, before)


def test_names_that_do_not_exist_are_refused():
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"Sequential has no module 'head'"), capture_features(net, modules=["head"]):
        pass
    with pytest.raises(TypeError, match="not a model of transformers; name its"), capture_features(net, ["hidden.0"]):
        pass
    for name in ("hidden.3", "hidden.-1", "scores.0", "embedding"):
        message = f"has no '{name}'; it has 3 layers, from 0"
        with pytest.raises(ValueError, match=message), capture_features(tiny("bert"), [name]):
            pass


# What can't be captured


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_attention_of_its_own_kind_is_an_error_and_never_an_empty_result(kind):
    model = tiny(kind)
    before = state_of(model)
    remedy = "Use a model that supports SDPA, or match hidden states"
    with pytest.raises(ValueError, match=remedy), capture_features(model):
        model(**batch_of())
    assert_nothing_left(model, before)
    with torch.no_grad(), capture_features(model, ["hidden.2", EMBEDDINGS]) as features:
        expected = model(**batch_of(), output_hidden_states=True).hidden_states
    assert torch.equal(features["hidden.2"], expected[3])
    assert torch.equal(features[EMBEDDINGS], expected[0])


def test_one_model_is_captured_once_at_a_time(model):
    before = state_of(model)
    with torch.no_grad(), capture_features(model) as features:
        for same in (model, model.base_model):
            with pytest.raises(ValueError, match="is being captured already"), capture_features(same):
                pass
        model(**batch_of())  # the first capture still works
    assert "queries.2" in features.tensors
    assert_nothing_left(model, before)


@pytest.mark.slow
def test_threads_capture_the_same_model_side_by_side(model):
    """A widget is drawn in a thread of its own while a cell trains: each records its own pass and no other's."""
    batches = [batch_of(lengths=lengths) for lengths in ((7, 3, 5), (4, 6), (2,))]

    def capture_repeatedly(number: int) -> None:
        for _ in range(20):
            with torch.no_grad(), capture_features(model) as seen:
                model(**batches[number])
                found = {name: tensor.clone() for name, tensor in seen.tensors.items()}
            assert set(found) == set(alone[number])
            assert all(torch.equal(found[name], alone[number][name]) for name in found)

    def run_without_capture() -> None:
        while not stop.is_set():
            with torch.no_grad():
                model(**batches[2])

    alone = []
    for batch in batches[:2]:
        with torch.no_grad(), capture_features(model) as seen:
            model(**batch)
        alone.append(seen.tensors)
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        busy = pool.submit(run_without_capture)
        jobs = [pool.submit(capture_repeatedly, number) for number in (0, 1)]
        try:
            for job in jobs:
                job.result()
        finally:
            stop.set()
        busy.result()
    assert all(config._attn_implementation in ("sdpa", "eager") for config in configs_of(model))


def test_teacher_and_student_are_captured_together(kind):
    teacher, student = tiny(kind), tiny(kind, n_layers=2, seed=1)
    alone = []
    for model in (teacher, student):
        with torch.no_grad(), capture_features(model) as features:
            model(**batch_of())
        alone.append(features.tensors)
    with torch.no_grad(), capture_features(teacher) as of_teacher, capture_features(student) as of_student:
        teacher(**batch_of())
        student(**batch_of())
    for together, expected in zip((of_teacher.tensors, of_student.tensors), alone, strict=True):
        assert together.keys() == expected.keys()
        assert all(torch.equal(together[name], expected[name]) for name in expected)


def test_the_model_of_another_capture_is_not_recorded():
    captured, other = tiny("bert"), tiny("bert", seed=1)
    with torch.no_grad(), capture_features(captured) as features:
        captured(**batch_of())
        kept = dict(features.tensors)
        other(**batch_of())
    assert all(features.tensors[name] is tensor for name, tensor in kept.items())


def test_gradient_checkpointing_is_refused_while_training(model):
    # Before transformers 5.23 both methods are named after gradients.
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{kind}_checkpointing_enable")()
    before = state_of(model)  # checkpointing has a hook of its own
    model.train()
    with pytest.raises(ValueError, match="activation_checkpointing_disable"), capture_features(model):
        pass
    assert state_of(model) == before
    model.eval()  # runs once
    with torch.no_grad(), capture_features(model) as features:
        model(**batch_of())
    assert "hidden.2" in features.tensors
    getattr(model, f"{kind}_checkpointing_disable")()
    model.train()
    with capture_features(model) as features:
        model(**batch_of())
    assert "hidden.2" in features.tensors


@pytest.mark.parametrize("kind", ["scaled by layer", "capped"])
def test_attention_scores_that_could_not_be_reproduced_are_refused(kind):
    sizes = {"vocab_size": 40, "pad_token_id": 0, "num_labels": 3}
    if kind == "capped":
        options = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
        config = Gemma2Config(**sizes, **options, head_dim=8, intermediate_size=16, attn_implementation="eager")
    else:
        config = GPT2Config(**sizes, n_embd=16, n_layer=2, n_head=2, scale_attn_by_inverse_layer_idx=True)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    ids = torch.arange(1, 7)[None]
    with pytest.raises(ValueError, match="capture hidden states only"), capture_features(model):
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    with capture_features(model, ["hidden.1"]) as features:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert features["hidden.1"].shape == (1, 6, 16)
