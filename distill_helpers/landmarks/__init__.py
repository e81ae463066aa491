"""The landmark systems as recipes: what each paper does, in one call, on your teacher and your data.

The recipes are `distilbert`, `tinybert`, `minilm`, `data_driven` (the idea of Phi-2) and `prune_and_heal` (Minitron).
Each takes a fine-tuned teacher and the messages of a task, makes a student and trains the student as the paper does:

    data = dh.load_help_desk()
    teacher = dh.load_course_model("help-desk-teacher")
    result = dh.landmarks.distilbert(teacher, data, dh.landmarks.Training(epochs=2, output_dir="distilbert"))
    dh.evaluate(result.classifier, data.test)

The papers first distil a general-purpose model on a large corpus. Here teacher and texts belong to one task, as in
TinyBERT's second half and in Minitron, and every docstring says what differs from the paper. The switches of a recipe
are those of the paper's ablations.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
