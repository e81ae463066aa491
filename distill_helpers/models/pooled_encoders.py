"""Encoders whose output is one vector for each text: the class of the encoder, with a pooling after its last layer.

A pooled encoder is an encoder of transformers with another `forward`, which hands the pooled vector on as `logits`. It
has the encoder's own weights under their own names, so that everything that trains, cuts, saves or caches a model of
transformers does so with this one, and what is saved is the encoder.
"""

from __future__ import annotations

import copy
import functools
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from distill_helpers.models.batching import POSITION_TABLES
from distill_helpers.models.prediction_tasks import PredictionTask
from distill_helpers.models.sentence_transformers_folder import POOLINGS, write_encoder_settings

__all__ = ["PooledOutput", "pool_tokens", "pooled_encoder"]


@dataclass
class PooledOutput(ModelOutput):
    """What a pooled encoder returns.

    Attributes:
        logits: the embedding of each text, fp32, (batch, width). The name is the one under which trainers look.
        last_hidden_state: of the encoder, (batch, length, width).
        hidden_states, attentions: of the encoder, where they were asked for.
    """

    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def pool_tokens(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """One vector for each text out of the vectors of its tokens.

    Args:
        hidden: (batch, length, width).
        attention_mask: (batch, length), 0 where there is padding. What stands there does not count, NaN included.
        pooling: "mean" of all tokens, special tokens included; "cls" for the first token, on whichever side padding
            stands.

    Returns:
        fp32, (batch, width), also of hidden states in half precision, in which a sum over a long text loses digits.

    Raises:
        ValueError: a row without any token, or an unknown pooling.
    """
    check_pooling(pooling)
    real = attention_mask.bool()
    n_tokens = real.sum(dim=1, keepdim=True)
    empty = (n_tokens == 0).nonzero()
    if len(empty):
        raise ValueError(f"row {int(empty[0, 0])} of the batch is padding alone, which has no embedding; drop the row")
    if pooling == "cls":
        return hidden[torch.arange(len(hidden), device=hidden.device), real.int().argmax(dim=1)].float()
    return hidden.float().masked_fill(~real[..., None], 0.0).sum(dim=1) / n_tokens


def check_pooling(pooling: str | None) -> None:
    """Raise ValueError unless the pooling is one of `POOLINGS`."""
    if pooling not in POOLINGS:
        raise ValueError(
            f"pooling must be one of {POOLINGS}, got {pooling!r}; the embeddings of a model depend on the pooling with"
            " which it was trained, so look at its model card"
        )


def pooled_encoder(encoder: PreTrainedModel, pooling: str, normalize: bool) -> PreTrainedModel:
    """A model with the encoder's weights that returns one embedding for each text. The encoder is not changed.

    The two models share their weights. A layer for the first token, which BERT and its relatives keep as `pooler` for
    other purposes, is left out: no embedding depends on it.

    Args:
        encoder: a model of transformers without a head, such as `BertModel` or `T5EncoderModel`.
        pooling: see `pool_tokens`.
        normalize: scale the embeddings to length 1.

    Raises:
        TypeError: no encoder of transformers.
        ValueError: an unknown pooling.
    """
    check_pooling(pooling)
    _check_encoder(encoder)
    kind = _pooled_class(type(encoder), pooling, normalize)  # type: ignore[arg-type]
    with torch.device("meta"):  # its parts are replaced by the encoder's
        pooled: Any = kind(encoder.config)
    for name in (name for name, _ in encoder.named_children() if name in pooled._modules):
        pooled._modules[name] = encoder._modules[name]
    for own, others in ((pooled._parameters, encoder._parameters), (pooled._buffers, encoder._buffers)):
        own.update(others)
    return pooled.train(encoder.training)


def _check_encoder(encoder: Any) -> None:
    if not isinstance(encoder, PreTrainedModel):
        raise TypeError(
            f"an encoder of transformers is needed, got {type(encoder).__name__}; merge an adapter first"
            " (`model.merge_and_unload()`)"
        )
    if encoder.base_model is not encoder:
        raise TypeError(f"{type(encoder).__name__} has a head; pass the encoder below it, `model.base_model`")
    if encoder.config.is_encoder_decoder:
        raise TypeError(f"{type(encoder).__name__} has a decoder too; load its encoder alone, such as T5EncoderModel")


@functools.cache
def _pooled_class(base: type[PreTrainedModel], pooling: str, normalize: bool) -> type[PreTrainedModel]:
    """The class of an encoder with a pooling. One class for each choice, so that loading needs no further settings."""
    # The models of transformers that can do without their pooler say so by this argument.
    without_pooler = {"add_pooling_layer": False} if _takes(base.__init__, "add_pooling_layer") else {}

    class Pooled(base):  # type: ignore[valid-type,misc]
        prediction_task = PredictionTask.REGRESSION

        def __init__(self, config: Any) -> None:
            config = copy.deepcopy(config)
            # One output for each coordinate: the shape by which data sets and trainers know the model.
            config.num_labels = config.get_text_config().hidden_size
            config.problem_type = "regression"
            super().__init__(config, **without_pooler)
            self.pooling, self.normalize = pooling, normalize

        @functools.wraps(base.forward)  # with its signature, by which others see what the model reads
        def forward(
            self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
        ) -> PooledOutput:
            kwargs.pop("return_dict", None)
            if attention_mask is not None and "position_ids" not in kwargs:
                kwargs |= _positions(self, attention_mask)
            outputs = super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
            hidden = outputs.last_hidden_state
            mask = hidden.new_ones(hidden.shape[:2]) if attention_mask is None else attention_mask
            embeddings = pool_tokens(hidden, mask, self.pooling)
            if self.normalize:
                embeddings = F.normalize(embeddings, dim=-1)
            return PooledOutput(embeddings, hidden, outputs.get("hidden_states"), outputs.get("attentions"))

        def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
            """Save the encoder, in a folder that transformers and sentence-transformers read."""
            super().save_pretrained(save_directory, *args, **kwargs)
            config = copy.deepcopy(self.config)
            config.num_labels, config.problem_type, config.architectures = 2, None, [base.__name__]
            config.save_pretrained(save_directory)
            write_encoder_settings(Path(save_directory), pooling, normalize, config.get_text_config().hidden_size)

    Pooled.__name__ = Pooled.__qualname__ = f"Pooled{base.__name__}"
    return Pooled


def _takes(function: Any, name: str) -> bool:
    return name in inspect.signature(function).parameters


def _positions(model: nn.Module, attention_mask: Tensor) -> dict[str, Tensor]:
    """The `position_ids` that a batch with padding on the left needs, if the model would count from the first column.

    BERT, DistilBERT and GPT-2 count so. RoBERTa and its relatives find the first token by themselves.
    """
    if attention_mask[:, 0].bool().all() or not any(_counts_columns(*named) for named in model.named_modules()):
        return {}
    if not _takes(model.forward, "position_ids"):
        raise ValueError(
            f"the batch is padded on the left, where this {type(model).__name__} counts its positions from; set"
            " `tokenizer.padding_side = 'right'`"
        )
    return {"position_ids": (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)}


def _counts_columns(name: str, module: nn.Module) -> bool:
    if name.rpartition(".")[2] not in POSITION_TABLES:
        return False
    return getattr(module, "padding_idx", None) is None and not hasattr(module, "offset")


def is_pooled(model: nn.Module) -> bool:
    """Whether a model is a pooled encoder."""
    return getattr(model, "pooling", None) in POOLINGS and hasattr(model, "normalize")
