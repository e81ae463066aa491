"""The way back from a kill: which checkpoint is complete, and to which run the checkpoints belong."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from transformers.trainer_utils import get_last_checkpoint

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.targets.cache import settings_of, tensor_bytes, weights_fingerprint
from distill_helpers.training.dataset import DistillationDataset

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

__all__ = ["claim_checkpoints", "newest_checkpoint", "run_key"]

_log = logging.getLogger(__name__)


def newest_checkpoint(folder: Path) -> str | None:
    """The newest *complete* checkpoint in `folder`, or None.

    The Trainer writes its state last. A checkpoint whose state can't be read was therefore cut short by a kill; the
    checkpoint is deleted, and the one before it counts.
    """
    while folder.is_dir() and (checkpoint := get_last_checkpoint(str(folder))) is not None:
        try:
            json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            _log.warning("checkpoint %s is incomplete; going on from the one before it", checkpoint)
            shutil.rmtree(checkpoint)
        else:
            return checkpoint
    return None


def run_key(
    model: PreTrainedModel,
    train: DistillationDataset,
    validation: DistillationDataset,
    args: TrainingArguments,
    config: DistillationConfig,
    teacher: TextClassifier | None = None,
) -> str:
    """A hash of everything that the weights of a run depend on: student, live teacher, data and settings."""
    digest = hashlib.sha256(weights_fingerprint(model).encode())
    # Dropout, for example, is in the configuration and not in the weights.
    digest.update(json.dumps(settings_of(model), sort_keys=True, default=str).encode())
    if teacher is not None:
        digest.update(weights_fingerprint(teacher.model).encode())
    for data in (train, validation):
        digest.update(json.dumps([data.token_ids, data.labels]).encode())
        if data.teacher_logits is not None:
            digest.update(tensor_bytes(data.teacher_logits))
        if data.teacher_features is not None:
            for _, tensor in sorted(data.teacher_features.tensors.items()):
                digest.update(tensor_bytes(tensor))
    steps = (args.num_train_epochs, args.per_device_train_batch_size, args.gradient_accumulation_steps, args.seed)
    order_and_rates = (args.train_sampling_strategy, args.learning_rate, args.warmup_steps, args.weight_decay)
    digest.update(repr((steps, order_and_rates, sorted(asdict(config).items()))).encode())
    return digest.hexdigest()


def claim_checkpoints(checkpoints: Path, key: str) -> None:
    """Write down to which run the checkpoints belong. Raises ValueError where they belong to another run."""
    owner = checkpoints / "run.key"
    if owner.exists() and owner.read_text() != key:
        raise ValueError(
            f"{checkpoints} holds an unfinished run with another student, data or settings; choose another output_dir,"
            " or pass resume=False to delete it"
        )
    checkpoints.mkdir(parents=True, exist_ok=True)
    owner.write_text(key)
