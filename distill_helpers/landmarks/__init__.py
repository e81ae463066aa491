"""The landmark systems as recipes: what each paper does, in one call, on your teacher and your data.

`distilbert`, `tinybert`, `minilm`, `data_driven` (the idea of Phi-2) and `prune_and_heal` (Minitron). Each takes a
fine-tuned teacher and a task's messages, makes a student and trains it the paper's way. The papers distil a
general-purpose model on a large corpus first; here teacher and texts are the task's own, as in TinyBERT's second half
and in Minitron, and every docstring says what differs. The switches are those of the papers' ablations.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
