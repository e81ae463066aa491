"""The landmark systems as recipes: what each paper does, in one call, on your teacher and your data.

`distilbert`, `tinybert`, `minilm`, `data_driven` (the idea of Phi-2) and `prune_and_heal` (Minitron). Each takes a
fine-tuned teacher and a task's messages, makes a student and trains it the paper's way. The papers distil a
general-purpose model on a large corpus first; here teacher and texts are the task's own, as in TinyBERT's second half
and in Minitron, and every docstring says what differs. The switches are those of the papers' ablations.
"""

from distill_helpers.landmarks.data_driven import data_driven
from distill_helpers.landmarks.distilbert import distilbert
from distill_helpers.landmarks.minilm import minilm
from distill_helpers.landmarks.prune_and_heal import prune_and_heal
from distill_helpers.landmarks.stages import Training, hard_label_baseline, random_twin
from distill_helpers.landmarks.tinybert import tinybert

__all__ = [
    "Training",
    "data_driven",
    "distilbert",
    "hard_label_baseline",
    "minilm",
    "prune_and_heal",
    "random_twin",
    "tinybert",
]
