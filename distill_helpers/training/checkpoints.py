"""The way back from a kill: which checkpoint is whole, and to which run the checkpoints belong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, TrainerCallback

from distill_helpers.data.installed_files import file_sha256
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.batching import segments_of
from distill_helpers.models.image_models import ImageClassifier, processor_settings
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.targets.cache import settings_of, tensor_bytes, weights_fingerprint
from distill_helpers.training.image_dataset import ImageDistillationDataset
from distill_helpers.training.token_dataset import TokenClassificationDataset, TrainingSet

if TYPE_CHECKING:
    from transformers import TrainingArguments

__all__ = [
    "ASSEMBLY",
    "KeepWhole",
    "claim_checkpoints",
    "damaged_file",
    "describe_run",
    "differences",
    "hashes_of",
    "is_claimed",
    "names_in_memory",
    "newest_checkpoint",
    "read_record",
    "write_atomically",
]

#: In each checkpoint: the SHA-256 of all its files. It is written last.
_HASHES = "files.sha256.json"
_OWNER = "run.key"
#: The folder in which the finished student is put together, before it moves to its place.
ASSEMBLY = "finished"
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_OTHER_FILES = re.compile(rf"run\.key(\.\d+\.tmp)?|{ASSEMBLY}")


def describe_run(
    model: PreTrainedModel,
    train: TrainingSet,
    validation: TrainingSet,
    args: TrainingArguments,
    config: DistillationConfig,
    teacher: TextClassifier | ImageClassifier | None = None,
) -> dict[str, Any]:
    """Everything that the weights of a run depend on, by a name that can stand in an error message.

    Settings are written out. Models and data are hashes: a student, a live teacher, and each part of the data sets.
    """
    described = {
        "n_epochs": args.num_train_epochs,
        "learning_rate": args.learning_rate,
        "batch_size": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "warmup_ratio": args.warmup_steps,
        "weight_decay": args.weight_decay,
        "group_by_length": args.train_sampling_strategy == "group_by_length",
        "seed": args.seed,
        "metric_for_best_model": args.metric_for_best_model,
        "number of processes": args.world_size,
        **asdict(config),
        "student's weights": weights_fingerprint(model),
        # Dropout, for example, is in the configuration and not in the weights.
        "student's configuration": _hash_of_json(settings_of(model)),
        "teacher": None if teacher is None else weights_fingerprint(teacher.model),
    }
    for name, data in (("training", train), ("validation", validation)):
        features = {} if data.teacher_features is None else data.teacher_features.tensors
        inputs: Any
        if isinstance(data, ImageDistillationDataset):
            of_inputs, inputs = "images", [data.pixels_key, processor_settings(data.reader.processor)]
        else:
            of_inputs, inputs = "texts", _hash_of_json(data.token_ids)
        described |= {
            f"{name} {of_inputs}": inputs,
            f"{name} labels": _hash_of_json(data.labels if isinstance(data.labels, list) else data.labels.tolist()),
            f"teacher logits of the {name} texts": (
                None if data.teacher_logits is None else _hash([tensor_bytes(data.teacher_logits)])
            ),
            f"teacher features of the {name} texts": {
                name: _hash([tensor_bytes(tensor)]) for name, tensor in sorted(features.items())
            },
        }
        if isinstance(data, TokenClassificationDataset):  # the same tokens may be those of other words
            described[f"{name} words"] = _hash_of_json(data.first_pieces)
        segments = [segments_of(ids) for ids in getattr(data, "token_ids", ())]
        if any(segments):  # the tokens of a pair may be those of one text that has the separator in it
            described[f"{name} segments"] = _hash_of_json(segments)
    # As it is when it has been read from a file: tuples are lists there.
    return json.loads(json.dumps(described, default=str))


def differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What differs between two runs: "seed (0 there, 1 here), training labels"."""
    missing = object()
    names = [name for name in here | there if there.get(name, missing) != here.get(name, missing)]
    values = [(name, there.get(name), here.get(name)) for name in names]
    return ", ".join(
        f"{name} ({old!r} there, {new!r} here)" if isinstance(new, (int, float)) or _is_word(old, new) else name
        for name, old, new in values
    )


def _is_word(*values: Any) -> bool:
    # Hashes say nothing to a reader.
    return all(isinstance(value, str) and len(value) < 40 for value in values)


def claim_checkpoints(checkpoints: Path, run: dict[str, Any]) -> None:
    """Write down to which run the checkpoints belong.

    Raises:
        ValueError: the checkpoints belong to another run, do not say to which one, or lie beside something else.
    """
    remedy = "choose another output_dir, or pass resume=False to delete it"
    owner = checkpoints / _OWNER
    if checkpoints.is_dir():
        others = [path for path in sorted(checkpoints.iterdir()) if not _OTHER_FILES.fullmatch(path.name)]
        for path in others:
            if not (path.is_dir() and _CHECKPOINT.fullmatch(path.name)):
                raise ValueError(
                    f"{path} is no checkpoint of this function, and might be deleted with the checkpoints beside it;"
                    " move it elsewhere, or choose another output_dir"
                )
        there = read_record(owner)
        if there is None and others:
            raise ValueError(
                f"{checkpoints} holds an unfinished run, but {owner.name} in it is missing or damaged, so that nobody"
                f" can say which run it is; {remedy}"
            )
        if there is not None and there != run:
            raise ValueError(
                f"{checkpoints} holds an unfinished run with another student, data or settings, which differs in"
                f" {differences(there, run)}; {remedy}"
            )
    checkpoints.mkdir(parents=True, exist_ok=True)
    write_atomically(owner, run)


def is_claimed(checkpoints: Path, run: dict[str, Any]) -> bool:
    """Whether an unfinished run left these checkpoints, and it is this very run."""
    return read_record(checkpoints / _OWNER) == run


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where the file is missing, or holds anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return record if isinstance(record, dict) else None


def write_atomically(path: Path, record: dict[str, Any]) -> None:
    """Write a JSON object, so that after a kill the file holds all of the new record or all of the old one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def hashes_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of some files of a folder, by name."""
    return {name: file_sha256(folder / name) for name in sorted(names)}


def damaged_file(folder: Path, hashes: dict[str, str]) -> str | None:
    """What is wrong with the first file that is missing or has another hash; None where all are as they were."""
    for name, expected in hashes.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_sha256(folder / name) != expected:
            return f"{name} is not as it was written"
    return None


class KeepWhole(TrainerCallback):
    """Writes the hashes of each checkpoint once it is complete, and keeps the best checkpoint where the folder is."""

    def __init__(self, checkpoints: Path, wait_for_everyone: Any) -> None:
        self.checkpoints, self.wait_for_everyone = checkpoints, wait_for_everyone

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The Trainer looks for the best checkpoint where it was written. Had the folder been moved since, the Trainer
        # would return the weights of the last epoch as the best.
        if state.best_global_step:
            state.best_model_checkpoint = str(self.checkpoints / f"checkpoint-{state.best_global_step}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.wait_for_everyone()  # each process writes the state of its own random numbers
        if state.is_world_process_zero:
            folder = self.checkpoints / f"checkpoint-{state.global_step}"
            files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
            write_atomically(folder / _HASHES, hashes_of(folder, files))


@contextlib.contextmanager
def names_in_memory(model: Any) -> Iterator[None]:
    """Let a model of transformers be saved under the names that its weights have in memory.

    Some architectures, ViT among them, are saved under the names of older versions. The Trainer reads a checkpoint back
    without translating them, and would return a student with the best epoch's head on the last epoch's layers.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    model.save_pretrained = partial(model.save_pretrained, save_original_format=False)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.save_pretrained


def newest_checkpoint(checkpoints: Path) -> str | None:
    """The newest *whole* checkpoint in a folder, or None.

    A checkpoint is whole if all its files are there with the hashes that were written after them, and the checkpoint of
    the best epoch until then is whole too. A warning names each checkpoint that is not; that checkpoint is deleted, and
    the one before it counts.
    """
    if not checkpoints.is_dir():
        return None
    found = [path for path in checkpoints.iterdir() if path.is_dir() and _CHECKPOINT.fullmatch(path.name)]
    for checkpoint in sorted(found, key=_step, reverse=True):
        wrong = _what_is_wrong(checkpoint)
        if wrong is None:
            return str(checkpoint)
        before = any(_step(path) < _step(checkpoint) for path in found)
        instead = "the run goes on from the checkpoint before it" if before else "the run starts anew"
        warnings.warn(f"{checkpoint} is not whole ({wrong}); it is deleted, and {instead}", stacklevel=3)
        shutil.rmtree(checkpoint)
    return None


def _what_is_wrong(checkpoint: Path) -> str | None:
    hashes = read_record(checkpoint / _HASHES)
    if hashes is None:
        return f"{_HASHES} is missing or damaged: a kill cut the checkpoint short"
    if "trainer_state.json" not in hashes:
        return f"{_HASHES} does not name trainer_state.json"
    if (wrong := damaged_file(checkpoint, hashes)) is not None:
        return wrong
    state = read_record(checkpoint / "trainer_state.json")
    if state is None:
        return "trainer_state.json is damaged"
    best = state.get("best_model_checkpoint")
    if best is not None and Path(best).name != checkpoint.name:
        best_here = checkpoint.parent / Path(best).name
        best_hashes = read_record(best_here / _HASHES)
        wrong = f"{_HASHES} is missing" if best_hashes is None else damaged_file(best_here, best_hashes)
        if wrong is not None:
            return f"it needs {best_here.name}, the best epoch until then, where {wrong}"
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _hash(parts: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _hash_of_json(value: Any) -> str:
    return _hash([json.dumps(value, sort_keys=True, default=str).encode()])
