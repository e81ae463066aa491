"""Pooling: one vector for each text, whatever the padding, the precision and the architecture of the encoder."""

import copy

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    T5Model,
)

from distill_helpers.models.pooled_encoders import pool_tokens, pooled_encoder
from distill_helpers.models.prediction_tasks import prediction_task

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SCALE = {"initializer_range": 0.3, "pad_token_id": 0}
T5 = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
ENCODERS = {
    "bert": lambda: BertModel(BertConfig(**SIZES, **SCALE, max_position_embeddings=20)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(
            vocab_size=60, dim=16, hidden_dim=24, n_layers=2, n_heads=2, max_position_embeddings=20, **SCALE
        )
    ),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZES, max_position_embeddings=22, **SCALE)),
    "t5": lambda: T5EncoderModel(T5Config(**T5)),
    "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=20, **SCALE)),
    "llama": lambda: LlamaModel(LlamaConfig(**SIZES, **SCALE)),
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return ENCODERS[request.param]().eval()


def batch_of(rows, side, width=12):
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for row, tokens in enumerate(rows):
        place = slice(0, len(tokens)) if side == "right" else slice(width - len(tokens), width)
        ids[row, place], mask[row, place] = torch.tensor(tokens), 1
    return {"input_ids": ids, "attention_mask": mask}


def test_the_mean_counts_tokens_alone_and_the_first_token_is_the_first_that_is_not_padding():
    hidden = torch.tensor(
        [[[1.0, 2.0], [3.0, 6.0], [float("nan"), 9.0]], [[7.0, float("inf")], [4.0, 2.0], [6.0, 4.0]]]
    )
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool_tokens(hidden, mask, "mean").tolist() == [[2.0, 4.0], [5.0, 3.0]]
    assert pool_tokens(hidden, mask, "cls").tolist() == [[1.0, 2.0], [4.0, 2.0]]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_row_of_padding_alone_has_no_embedding(pooling):
    with pytest.raises(ValueError, match="row 1 of the batch is padding alone"):
        pool_tokens(torch.ones(2, 3, 4), torch.tensor([[1, 0, 0], [0, 0, 0]]), pooling)


def test_half_precision_is_pooled_in_single_precision():
    hidden = torch.full((1, 4096, 1), 0.1).half()
    pooled = pool_tokens(hidden, torch.ones(1, 4096), "mean")
    assert pooled.dtype == torch.float32
    assert abs(pooled.item() - hidden[0, 0, 0].item()) < 1e-6


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_embedding_does_not_depend_on_batch_and_padding(encoder, pooling):
    pooled = pooled_encoder(encoder, pooling, normalize=False)
    rows = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [15]]
    with torch.no_grad():
        alone = torch.cat([pooled(input_ids=torch.tensor([row])).logits for row in rows])
        last = encoder(input_ids=torch.tensor([rows[1]])).last_hidden_state[0]
        for side in ("right", "left"):
            assert torch.allclose(pooled(**batch_of(rows, side)).logits, alone, atol=1e-5), side
    expected = last.mean(dim=0) if pooling == "mean" else last[0]
    assert torch.allclose(alone[1], expected, atol=1e-6)
    assert alone.std(dim=0).max() > 0.01, "the encoder tells no texts apart, so the comparison would be empty"


def test_a_model_that_cannot_be_told_its_positions_refuses_padding_on_the_left(monkeypatch):
    class WithoutPositions(BertModel):
        def forward(self, input_ids=None, attention_mask=None):
            return super().forward(input_ids=input_ids, attention_mask=attention_mask)

    pooled = pooled_encoder(WithoutPositions(BertConfig(**SIZES, **SCALE)), "mean", normalize=False)
    pooled(**batch_of([[5, 6]], "right"))
    with pytest.raises(ValueError, match=r"padded on the left.*padding_side = 'right'"):
        pooled(**batch_of([[5, 6]], "left"))


def test_length_one_and_the_gradient_through_it():
    pooled = pooled_encoder(ENCODERS["bert"](), "mean", normalize=True)
    embeddings = pooled(**batch_of([[5, 6, 7], [8, 9]], "right")).logits
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2))
    embeddings[0, 0].backward()
    assert pooled.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_the_encoder_stays_as_it_was_and_shares_its_weights():
    encoder = ENCODERS["bert"]().train()
    names, kind, entries = list(encoder.state_dict()), type(encoder), encoder.config.to_dict()
    pooled = pooled_encoder(encoder, "mean", normalize=False)
    assert list(encoder.state_dict()) == names
    assert (type(encoder), encoder.config.to_dict()) == (kind, entries)
    assert encoder.pooler is not None
    assert pooled.training
    assert [name for name in names if not name.startswith("pooler.")] == list(pooled.state_dict())
    assert all(
        tensor.data_ptr() == encoder.state_dict()[name].data_ptr() for name, tensor in pooled.state_dict().items()
    )
    assert not any(parameter.is_meta for parameter in (*pooled.parameters(), *pooled.buffers()))
    assert copy.deepcopy(pooled).embeddings.word_embeddings.weight is not encoder.embeddings.word_embeddings.weight


def test_it_says_what_it_predicts(encoder):
    pooled = pooled_encoder(encoder, "mean", normalize=False)
    assert prediction_task(pooled) == "regression"
    assert pooled.config.num_labels == 16


def test_what_is_no_encoder_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"BertForSequenceClassification has a head; pass .*base_model"):
        pooled_encoder(BertForSequenceClassification(BertConfig(**SIZES)), "mean", normalize=False)
    with pytest.raises(TypeError, match="T5EncoderModel"):
        pooled_encoder(T5Model(T5Config(**T5)), "mean", normalize=False)
    with pytest.raises(TypeError, match="got Linear"):
        pooled_encoder(torch.nn.Linear(2, 2), "mean", normalize=False)
    with pytest.raises(ValueError, match=r"pooling must be one of .* got 'max'"):
        pooled_encoder(ENCODERS["bert"](), "max", normalize=False)


@pytest.mark.slow
def test_an_adapter_is_refused_with_the_remedy():
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(ENCODERS["bert"](), LoraConfig(target_modules=["query"]))
    with pytest.raises(TypeError, match="merge_and_unload"):
        pooled_encoder(adapted, "mean", normalize=False)
