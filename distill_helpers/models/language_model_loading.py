"""Loading causal language models. `loading` says what holds for models of every kind: nothing is downloaded unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill_helpers.data.installed_files import require_package
from distill_helpers.models.adapters import is_adapter, merge_adapter
from distill_helpers.models.loading import base_of, cached_snapshot, language_model_path, pick_device
from distill_helpers.models.stored_weights import check_loaded, check_weight_files
from distill_helpers.models.text_models import LanguageModel

__all__ = ["load_language_model"]


def load_language_model(
    source: str | Path | None = None, *, allow_download: bool = False, device: str | torch.device | None = None
) -> LanguageModel:
    """A causal language model from the installed package, a GGUF file, a folder, or the Hub.

    Args:
        source: None for the course's SmolLM2 (see `language_model_path`); a `.gguf` file, whose weights are
            de-quantised (this needs the extra `gguf`); a folder in the format of transformers; a folder with a PEFT
            adapter, which is merged into the base that it names; or a name on the Hub.
        allow_download: let the name be fetched from the Hub. False uses only what is on this machine.
        device: default the best there is, see `pick_device`.

    Returns:
        The model (fp32, evaluation mode) and its own tokenizer. The tokenizer pads on the left, as generating in
        batches needs.

    Raises:
        FileNotFoundError: the installed model is missing.
        ImportError: the source is a `.gguf` file, and the package `gguf` is missing.
        OSError: the source is neither a file nor a folder nor in the local cache, and downloads are not allowed.
        ValueError: the installed model is altered; the source asks for code of its own, or its files lack weights of
            the model or name files outside their folder.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=2000, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
        >>> LlamaForCausalLM(config).save_pretrained("tiny")
        >>> _ = dh.load_course_model("help-desk-student").tokenizer.save_pretrained("tiny")
        >>> dh.load_language_model("tiny", device="cpu")
        LanguageModel(LlamaForCausalLM, 2,000 tokens, 296,472 parameters, cpu)
    """
    source = language_model_path() if source is None else source
    options: dict[str, Any] = {"local_files_only": not allow_download, "trust_remote_code": False}
    path = Path(source)
    if path.suffix == ".gguf" and path.is_file():
        require_package("gguf", f"Reading {path.name}", extra="gguf")
        source, options["gguf_file"] = path.parent, path.name
    elif not allow_download and not path.is_dir():
        source = cached_snapshot(str(source))
    folder = None
    if is_adapter(source):
        folder, source = Path(source), base_of(Path(source), allow_download)
    check_weight_files(source)
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if "gguf_file" not in options:
        options["use_safetensors"] = True
    loaded: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **options)
    model, report = loaded
    if folder is not None:
        model = merge_adapter(model, folder, report["missing_keys"])
    else:
        check_loaded(model, report, source)
    if "gguf_file" in options:
        # The weights are plain fp32 now, but transformers still calls the model quantised and would not train it.
        model.is_quantized = False
        del model.hf_quantizer, model.quantization_method, model.config.quantization_config
    return LanguageModel(model.to(pick_device(device)).eval(), tokenizer)
