"""The way back from a kill: which checkpoint is whole, and whose it is."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.loading import TextClassifier
from distill_helpers.targets.cache import settings_of, tensor_bytes, weights_fingerprint
from distill_helpers.training.dataset import DistillationDataset

__all__ = ["claim_checkpoints", "newest_checkpoint", "run_key"]

_log = logging.getLogger(__name__)


def newest_checkpoint(folder: Path) -> str | None:
    """The newest *whole* checkpoint below `folder`, or None.

    The Trainer writes its state last, so a checkpoint whose state does not parse was cut short by a kill; it is
    deleted, and the one before it counts.
    """
    found = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    while found:
        checkpoint = found.pop()
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            _log.warning("checkpoint %s is incomplete; going on from the one before it", checkpoint)
            shutil.rmtree(checkpoint)
        else:
            return str(checkpoint)
    return None


def run_key(
    model: PreTrainedModel,
    train: DistillationDataset,
    validation: DistillationDataset,
    args: TrainingArguments,
    config: DistillationConfig,
    teacher: TextClassifier | None = None,
) -> str:
    """A hash of everything that a run's weights depend on: student, live teacher, data, settings."""
    digest = hashlib.sha256(weights_fingerprint(model).encode())
    # Dropout, for one, is in the configuration and not in the weights.
    digest.update(json.dumps(settings_of(model), sort_keys=True, default=str).encode())
    if teacher is not None:
        digest.update(weights_fingerprint(teacher.model).encode())
    for data in (train, validation):
        digest.update(json.dumps([data.token_ids, data.labels]).encode())
        if data.teacher_logits is not None:
            digest.update(data.teacher_logits.numpy().tobytes())
        if data.teacher_features is not None:
            for _, tensor in sorted(data.teacher_features.tensors.items()):
                digest.update(tensor_bytes(tensor))
    steps = (args.num_train_epochs, args.per_device_train_batch_size, args.gradient_accumulation_steps, args.seed)
    order_and_rates = (args.train_sampling_strategy, args.learning_rate, args.warmup_steps, args.weight_decay)
    digest.update(repr((steps, order_and_rates, config)).encode())
    return digest.hexdigest()


def claim_checkpoints(checkpoints: Path, key: str) -> None:
    """Write down whose checkpoints these are. Raises ValueError where they are another run's."""
    owner = checkpoints / "run.key"
    if owner.exists() and owner.read_text() != key:
        raise ValueError(
            f"{checkpoints} holds an unfinished run with another student, data or settings; choose another output_dir,"
            " or pass resume=False to delete it"
        )
    checkpoints.mkdir(parents=True, exist_ok=True)
    owner.write_text(key)
