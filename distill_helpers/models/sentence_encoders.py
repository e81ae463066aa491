"""`SentenceEncoder`: an encoder that turns a text into one vector, with its tokenizer; from a folder and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from distill_helpers.models.adapters import is_adapter
from distill_helpers.models.loading import cached_snapshot, pick_device, quiet_transformers
from distill_helpers.models.parameter_counts import count_parameters
from distill_helpers.models.pooled_encoders import check_pooling, is_pooled, pooled_encoder
from distill_helpers.models.sentence_transformers_folder import read_encoder_settings
from distill_helpers.models.stored_weights import check_loaded, check_weight_files
from distill_helpers.models.text_models import TextClassifier, predict_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill_helpers.data.text_inputs import TextInput

__all__ = ["SentenceEncoder", "load_sentence_encoder"]


class SentenceEncoder(TextClassifier):
    """An encoder of transformers that turns each text into one vector, and the tokenizer of the encoder.

    To the rest of the package, an encoder is a model with one score for each coordinate of its embeddings (task
    "regression"). Trainers, caches and the functions that make students therefore take a `SentenceEncoder` wherever
    they take a `TextClassifier`.

    Args:
        model: an encoder without a head, such as `BertModel`. The `SentenceEncoder` shares the model's weights. Its own
            `model` is a subclass of the encoder's class, whose `logits` are the embeddings.
        tokenizer: the model's own.
        pooling: "mean" of the tokens' last hidden states, special tokens included, or "cls" for the first token. It has
            no default, because a model whose vectors are pooled in another way than in its training gives poor
            embeddings without an error.
        normalize: scale the embeddings to length 1. Default False.

    Raises:
        TypeError: a model with a head, a decoder beside its encoder, or an adapter.
        ValueError: an unknown pooling.

    Example:
        >>> from transformers import AutoModel, AutoTokenizer
        >>> folder = dh.base_encoder_path()
        >>> model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        >>> encoder = dh.SentenceEncoder(model, tokenizer, pooling="mean", normalize=True)
        >>> encoder
        SentenceEncoder(PooledBertModel, mean pooling, length 1, width 384, 22,565,376 parameters, cpu)
        >>> screen, display, car = encoder.embed(["my screen is grey", "the display has no colours", "a fast car"])
        >>> f"{screen @ display:.2f} {screen @ car:.2f}"
        '0.57 0.00'
    """

    def __new__(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pooling: str | None = None,
        normalize: bool | None = None,
    ) -> SentenceEncoder:
        if not is_pooled(model):
            check_pooling(pooling)
            return super().__new__(cls, pooled_encoder(model, str(pooling), bool(normalize)), tokenizer)
        # A pooled model says how; a second word on it, as after `copy.copy`, may only repeat the first.
        own: Any = model
        for name, given in (("pooling", pooling), ("normalize", normalize)):
            if given is not None and given != getattr(own, name):
                raise ValueError(
                    f"the model has {name}={getattr(own, name)!r} already, got {given!r}; pass the encoder that it was"
                    " made from"
                )
        return super().__new__(cls, model, tokenizer)

    @property
    def pooling(self) -> str:
        """How one vector is made out of the tokens' vectors: "mean" or "cls"."""
        return str(self._pooled.pooling)

    @property
    def normalize(self) -> bool:
        """Whether the embeddings have length 1."""
        return bool(self._pooled.normalize)

    @property
    def width(self) -> int:
        """The number of coordinates of an embedding."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def _pooled(self) -> Any:
        return self.model

    def embed(
        self,
        texts: Sequence[TextInput],
        *,
        batch_size: int = 64,
        max_length: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """The embedding of each text, in the order of the texts. The model is used where it is, without dropout.

        Args:
            texts: none of them empty.
            batch_size: the number of texts at a time. The embeddings do not depend on it, up to rounding.
            max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.
            progress: show a progress bar.

        Returns:
            fp32, (texts, width), on the CPU.

        Raises:
            ValueError: no text, an empty text, one of more tokens than the model has positions, or an embedding that is
                not finite (with its row).
        """
        embeddings = predict_logits(self, texts, batch_size=batch_size, max_length=max_length, progress=progress)
        embeddings = embeddings.clone()  # a tensor of inference mode could not be the target of a loss
        bad = (~embeddings.isfinite()).any(dim=1).nonzero()
        if len(bad):
            raise ValueError(
                f"row {int(bad[0, 0])}: the embedding is not finite; compute in float32, `encoder.model.float()`, or"
                " look for weights that are not finite"
            )
        return embeddings

    def save(self, folder: str | Path) -> None:
        """Save the encoder and its tokenizer, so that transformers, sentence-transformers and this package load them.

        The folder holds the encoder under its own class and names (`AutoModel` loads it), and `modules.json` and
        `1_Pooling/config.json`, by which `SentenceTransformer(folder)` makes the same embeddings.
        """
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def __repr__(self) -> str:
        length = ", length 1" if self.normalize else ""
        return (
            f"SentenceEncoder({type(self.model).__name__}, {self.pooling} pooling{length}, width {self.width},"
            f" {count_parameters(self.model):,} parameters, {self.model.device})"
        )


def load_sentence_encoder(
    source: str | Path,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    allow_download: bool = False,
    device: str | torch.device | None = None,
) -> SentenceEncoder:
    """A sentence encoder from a folder of sentence-transformers or of transformers, or from the Hub.

    Args:
        source: a folder, or a name on the Hugging Face Hub.
        pooling, normalize: as in `SentenceEncoder`. Needed for a folder of transformers alone, which does not say how
            embeddings are made. A folder of sentence-transformers says so itself; giving both is an error where they
            differ.
        allow_download: let the name be fetched from the Hub. False uses only what is on this machine.
        device: default the best there is, see `pick_device`.

    Returns:
        The encoder (fp32, evaluation mode). Its tokenizer cuts texts where the folder says (`max_seq_length`).

    Raises:
        OSError: the source is neither a folder nor in the local cache, and downloads are not allowed.
        ValueError: a folder with modules other than Transformer, Pooling and Normalize, or with another pooling; a
            folder that does not name its pooling, and `pooling` is None; settings that contradict the folder; an
            adapter; files that lack weights of the model.

    Example:
        >>> teacher = dh.load_sentence_encoder(dh.base_encoder_path(), device="cpu")
        >>> teacher
        SentenceEncoder(PooledBertModel, mean pooling, length 1, width 384, 22,565,376 parameters, cpu)
        >>> teacher.embed(["my mac shows a grey screen", "no sound"]).shape
        torch.Size([2, 384])
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _downloaded(str(source)) if allow_download else cached_snapshot(str(source))
    if is_adapter(folder):
        raise ValueError(f"{folder} holds an adapter of PEFT; merge it into its encoder, and save the encoder")
    settings = read_encoder_settings(folder)
    if settings is not None:
        for name, given, read in (
            ("pooling", pooling, settings.pooling),
            ("normalize", normalize, settings.normalize),
        ):
            if given is not None and given != read:
                raise ValueError(
                    f"{folder} says {name}={read!r}, got {given!r}; leave it out, or load the encoder with AutoModel"
                    " and make a SentenceEncoder of it"
                )
        pooling, normalize = settings.pooling, settings.normalize
    elif pooling is None:
        raise ValueError(
            f"{folder} has no modules.json that says how its embeddings are pooled; pass pooling='mean' or"
            " pooling='cls', as in the model's training"
        )
    weights = folder if settings is None else settings.weights
    check_weight_files(weights)
    with quiet_transformers():  # what is missing is told by an error below
        model, report = AutoModel.from_pretrained(
            weights,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True, trust_remote_code=False)
    encoder = SentenceEncoder(model, tokenizer, pooling, normalize)
    # The pooler may be missing or random: the encoder has none.
    kept = set(encoder.model.state_dict())
    report = {**report, "missing_keys": [name for name in report["missing_keys"] if name in kept]}
    check_loaded(model, report, weights)
    if settings is not None:
        if settings.lower_case and not getattr(tokenizer, "do_lower_case", False):
            raise ValueError(
                f"{folder} lower-cases its texts, and its tokenizer does not; give the tokenizer a normalizer that does"
            )
        if settings.max_length is not None:
            tokenizer.model_max_length = min(settings.max_length, tokenizer.model_max_length)
    encoder.model.to(pick_device(device)).eval()  # type: ignore[arg-type]
    return encoder


def _downloaded(name: str) -> Path:
    """The files of a repository on the Hub that a sentence encoder is made of. No pickle is fetched."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
