"""From texts to padded batches, on real messages."""

import copy
import sys
import warnings

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    OPTConfig,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from distill_helpers.models.batching import (
    check_batch_size,
    check_positions,
    encode_texts,
    evaluation_mode,
    model_batch,
    pad_batch,
    position_limit,
    to_device,
)
from distill_helpers.models.pad_tokens import check_pad_token
from distill_helpers.models.text_models import TextClassifier, predict_logits


@pytest.fixture
def own_tokenizer(tokenizer):
    """A copy that a test may change."""
    return copy.deepcopy(tokenizer)


# Encoding


def test_texts_are_encoded_with_special_tokens_and_without_padding(tokenizer, messages):
    encoded = encode_texts(tokenizer, messages)
    assert encoded == [tokenizer(message)["input_ids"] for message in messages]
    assert {(ids[0], ids[-1]) for ids in encoded} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
    assert len({len(ids) for ids in encoded}) > 10


@pytest.mark.parametrize("max_length", [3, 8, None])
def test_encoding_truncates_to_the_length_asked_for_or_the_tokenizers_own(own_tokenizer, messages, max_length):
    own_tokenizer.model_max_length = 12
    encoded = encode_texts(own_tokenizer, messages, max_length)
    assert max(map(len, encoded)) == (max_length or 12)
    assert all(ids[-1] == own_tokenizer.sep_token_id for ids in encoded)


def test_a_tokenizer_without_a_limit_truncates_nothing(tokenizer):
    unlimited = BertTokenizer(vocab=tokenizer.get_vocab())
    assert len(encode_texts(unlimited, ["a " * 2000])[0]) == 2002


@pytest.mark.parametrize(
    ("texts", "max_length", "message"),
    [
        ([], None, "non-empty list"),
        ("one message", None, "list of texts"),
        (["hello", "", "you"], None, "row 1.*empty"),
        (["hello", " \t"], None, "row 1.*empty"),
        (["hello", None], None, "row 1.*not a string"),
        (["hello", "broken \ud83d half"], None, r"row 1: .*half of a surrogate pair \(U\+D83D\) at character 7"),
        (["hello"], 2, "at least 3.*got 2"),
        (["hello"], 0, "at least 3.*got 0"),
    ],
)
def test_texts_that_cannot_be_encoded_are_refused(tokenizer, texts, max_length, message):
    with pytest.raises(ValueError, match=message):
        encode_texts(tokenizer, texts, max_length)


@pytest.mark.parametrize("kind", ["bert", "roberta", "opt", "llama"])
def test_a_text_that_is_longer_than_the_learned_positions_is_refused_with_row_and_remedy(kind):
    size = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "pad_token_id": 1}
    config, limit = {
        "bert": (BertConfig(**size, intermediate_size=8, max_position_embeddings=12), 12),
        "roberta": (RobertaConfig(**size, intermediate_size=8, max_position_embeddings=12), 10),
        "opt": (OPTConfig(**size, ffn_dim=8, word_embed_proj_dim=8, max_position_embeddings=12), 12),
        "llama": (LlamaConfig(**size, intermediate_size=8, max_position_embeddings=12), sys.maxsize),
    }[kind]
    model = AutoModel.from_config(config).eval()
    assert position_limit(model) == limit
    longest = min(limit, 20)
    model(torch.full((1, longest), 5))  # as many tokens as the limit says do work
    check_positions(model, [[5] * longest])
    if limit != sys.maxsize:
        with pytest.raises(ValueError, match=f"row 1: the text has {limit + 1} tokens.* max_length={limit}"):
            check_positions(model, [[5], [5] * (limit + 1)])
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, limit + 1), 5))


@pytest.mark.parametrize("kind", ["openai-gpt", "nystromformer", "gpt_neo", "bart", "mpnet", "roformer", "canine"])
def test_the_limit_is_the_longest_text_that_the_model_can_read(kind):
    widths = {"hidden_size": 8, "n_embd": 8, "d_model": 8, "embedding_size": 8, "intermediate_size": 8}
    heads = {"num_attention_heads": 1, "n_head": 1, "num_heads": 1, "encoder_attention_heads": 1}
    layers = {"num_hidden_layers": 1, "n_layer": 1, "num_layers": 1, "encoder_layers": 1, "decoder_layers": 1}
    own = {
        "nystromformer": {"num_landmarks": 2, "segment_means_seq_len": 2},
        "gpt_neo": {"attention_types": [[["global"], 1]]},
        "canine": {"num_hash_functions": 2, "downsampling_rate": 2, "local_transformer_stride": 4},
    }
    size = {} if kind == "canine" else {"vocab_size": 40}
    positions = {"max_position_embeddings": 14, "n_positions": 14}
    options = widths | heads | layers | size | positions | {"decoder_attention_heads": 1} | own.get(kind, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModel.from_config(AutoConfig.for_model(kind, **options)).eval()
    limit = position_limit(model)
    assert 12 <= limit <= 14
    with torch.no_grad():
        model(input_ids=torch.full((1, limit), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, limit + 1), 5))


# Padding


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [
        ("right", [[7, 8, 9], [5, 0, 0]], [[1, 1, 1], [1, 0, 0]]),
        ("left", [[7, 8, 9], [0, 0, 5]], [[1, 1, 1], [0, 0, 1]]),
    ],
)
def test_batches_are_padded_on_the_tokenizers_side_to_the_longest_row(own_tokenizer, side, ids, mask):
    own_tokenizer.padding_side = side
    batch = pad_batch([[7, 8, 9], [5]], own_tokenizer)
    assert own_tokenizer.pad_token_id == 0
    assert batch["input_ids"].tolist() == ids
    assert batch["attention_mask"].tolist() == mask
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_agrees_with_the_tokenizers_own(own_tokenizer, messages, side):
    own_tokenizer.padding_side = side
    expected = own_tokenizer(messages, padding="longest", return_tensors="pt")
    batch = pad_batch(encode_texts(own_tokenizer, messages), own_tokenizer)
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(batch[name], expected[name])


def test_the_padding_token_is_the_tokenizers(own_tokenizer):
    own_tokenizer.pad_token = "[MASK]"
    assert pad_batch([[7, 8], [5]], own_tokenizer)["input_ids"][1, 1] == own_tokenizer.mask_token_id


def test_a_tokenizer_without_padding_token_is_refused_with_the_remedy(own_tokenizer):
    own_tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"no padding token; set `tokenizer\.pad_token"):
        pad_batch([[7, 8], [5]], own_tokenizer)


# Helpers of a loop over batches


def test_a_batch_is_moved_to_the_device_and_loses_what_is_no_tensor():
    batch = {"input_ids": torch.tensor([[1]]), "labels": torch.tensor([2]), "texts": ["one"], "teacher_targets": None}
    moved = to_device(batch, torch.device("meta"))
    assert {name: tensor.device.type for name, tensor in moved.items()} == {"input_ids": "meta", "labels": "meta"}
    assert torch.equal(to_device(batch, torch.device("cpu"))["labels"], batch["labels"])


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_1_is_refused(batch_size):
    check_batch_size(1)
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}"):
        check_batch_size(batch_size)


# What a model looks for, and the modes of its modules


def roberta(pad, **more):
    config = RobertaConfig(**SIZE, pad_token_id=pad, num_labels=2, **more)
    return RobertaForSequenceClassification(config).eval()


SIZE = {"vocab_size": 400, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}


@pytest.mark.parametrize("pad", [7, None])
def test_a_decoder_that_finds_the_end_by_another_token_is_refused(tokenizer, pad):
    decoder = LlamaForSequenceClassification(LlamaConfig(**SIZE, pad_token_id=pad, num_labels=2)).eval()
    with pytest.raises(ValueError, match=rf"pads with token 0, but by its configuration .* looks for {pad}.*; set"):
        predict_logits(TextClassifier(decoder, tokenizer), ["no sound", "help"])
    decoder.config.pad_token_id = tokenizer.pad_token_id
    assert predict_logits(TextClassifier(decoder, tokenizer), ["no sound", "help"]).isfinite().all()


def test_positions_that_are_counted_by_another_padding_token_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"by its module 'roberta\.embeddings' .* looks for 7"):
        model_batch(roberta(7), [[5, 6]], tokenizer)
    assert set(model_batch(roberta(0), [[5, 6]], tokenizer)) == {"input_ids", "attention_mask"}


def test_a_padding_token_that_the_attention_mask_hides_and_one_of_a_bare_decoder_pass(tokenizer):
    bert = BertForSequenceClassification(BertConfig(**SIZE, pad_token_id=7))
    check_pad_token(bert, tokenizer)
    check_pad_token(LlamaForCausalLM(LlamaConfig(**SIZE, pad_token_id=7)), tokenizer)


def test_xlnet_reads_its_class_off_the_last_column(tokenizer):
    config = XLNetConfig(vocab_size=400, d_model=16, n_layer=1, n_head=2, d_inner=16, num_labels=2)
    model = XLNetForSequenceClassification(config).eval()
    assert model_batch(model, [[5, 6, 7], [5]], tokenizer)["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    tokenizer.padding_side = "left"
    assert model_batch(roberta(0), [[5, 6, 7], [5]], tokenizer)["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_each_module_comes_back_in_its_own_mode():
    model = roberta(0).train()
    model.roberta.encoder.eval()  # frozen, say
    before = {name: module.training for name, module in model.named_modules()}
    stopped = False
    try:
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules())
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        stopped = True
    assert stopped
    assert {name: module.training for name, module in model.named_modules()} == before
