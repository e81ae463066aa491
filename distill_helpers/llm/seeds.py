"""Seeds for the parts of a run, and random numbers that leave the rest of the program alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["derived_seed", "seeded"]


def derived_seed(seed: int, number: int, factor: int = 1_000_003) -> int:
    """The seed of one numbered part of a run: a shard, a batch, a step.

    The part can then be computed alone, with the random numbers that it has within the whole run.

    Args:
        seed: of the run.
        number: of the part; parts of one run differ as long as their numbers are below `factor`.
        factor: by which the seeds of two runs lie apart.
    """
    return seed * factor + number


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch draws its random numbers from `seed`. Afterwards the global random state is what it was before.

    Args:
        seed: for the CPU and for `device`.
        device: of the model that draws.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
