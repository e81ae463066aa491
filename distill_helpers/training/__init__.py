"""Training a student.

* `train_student`: the whole run in one call, from the data sets to a saved student;
* `dataset`: texts, hard labels, teacher logits and features, tokenised once;
* `trainer`: `DistillationTrainer`, which is transformers' `Trainer` with a teacher;
* `validation_metrics`, `task_validation`: what is measured after each epoch, by task, and which epoch is best;
* `checks`: what is refused before a training starts;
* `checkpoints`: which checkpoint is whole, and whose it is; `output_folder`: the same for the finished student;
* `model_card`: the card that is saved with a student.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
