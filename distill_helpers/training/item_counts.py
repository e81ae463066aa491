"""Which items of a batch count: not the rows with which several processes fill up the last batch of an epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX

__all__ = ["counted_items", "repeated_rows"]


def repeated_rows(accelerator: Any, n_rows: int) -> int:
    """How many of the last rows of this process's batch repeat rows of others, in the last batch of an epoch.

    Args:
        accelerator: the Trainer's, which knows the number of processes and where the epoch ends.
        n_rows: the rows of this process's batch.
    """
    state = accelerator.gradient_state
    if accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
        return 0
    first = accelerator.process_index * n_rows
    return n_rows - min(max(state.remainder - first, 0), n_rows)


def counted_items(labels: Tensor, n_repeated: int, given: Tensor | None, task: str) -> Tensor | None:
    """The mask of the items that count; None where the labels alone say so.

    Args:
        labels: of the batch.
        n_repeated: the number of the batch's last rows that do not count.
        given: the mask that the batch brought: words without a hard label count too.
        task: as `DistillationConfig` names it.
    """
    if n_repeated == 0:
        return given
    if given is not None:
        counts = given.clone()
    elif labels.dim() == 1 or task in ("multi_label", "regression"):
        counts = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    else:
        counts = labels != IGNORE_INDEX
    counts[len(labels) - n_repeated :] = False
    return counts
