"""`DistilledStudent`: what a training in one call returns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import PreTrainedModel

from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.pooled_encoders import is_pooled
from distill_helpers.models.sentence_encoders import SentenceEncoder
from distill_helpers.models.text_models import TextClassifier

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase
    from transformers.image_processing_utils import BaseImageProcessor

__all__ = ["DistilledStudent"]


class DistilledStudent(NamedTuple):
    """What `train_student_with_distillation` returns.

    Attributes:
        model: the student of the best epoch, in evaluation mode.
        tokenizer: the student's tokenizer; the processor of a student that reads images.
        history: one row for each epoch: `epoch`, the training loss and its terms, and the validation figures
            `eval_loss`, `eval_accuracy`, `eval_nll` (with hard labels; nats), `eval_agreement` and `eval_kl` (with
            teacher logits; KL(teacher ‖ student) at T = 1, nats). For several labels these are `eval_micro_f1`,
            `eval_macro_f1` and `eval_bce` (with hard labels; nats), `eval_agreement` and `eval_kl`; for scores
            `eval_mse` and `eval_spearman` (with true scores), `eval_teacher_mse` and `eval_teacher_spearman`.
            `eval_loss` depends on temperature and alpha; the others can be compared between all runs.
        output_dir: the folder with model, tokenizer, model card and `history.csv`.

    Example:
        Fine-tune a classifier on hard labels alone, which is the way to a teacher of your own:

        >>> few = dh.load_help_desk().train.subset(range(0, 2500, 100))
        >>> start = dh.load_course_model("help-desk-student", device="cpu")
        >>> data = dh.DistillationDataset(few.texts, few.labels, None, start.tokenizer, max_length=32)
        >>> hard_labels_alone = dh.DistillationConfig(alpha=0.0)
        >>> result = dh.train_student_with_distillation(
        ...     start, data, data, hard_labels_alone, n_epochs=1, output_dir="teacher", device="cpu", progress=False
        ... )
        >>> result
        DistilledStudent(TextClassifier(BertForSequenceClassification, 5 classes, 1,060,357 parameters, cpu),
        1 epoch, saved in teacher)
        >>> result.classifier.predict(["my mac shows a grey screen"]).label[0]
        'comp.sys.mac.hardware'
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | BaseImageProcessor
    history: pd.DataFrame
    output_dir: Path

    @property
    def classifier(self) -> Any:
        """The student with its tokenizer or processor: a `TextClassifier`, `ImageClassifier` or `SentenceEncoder`."""
        kind: Any = ImageClassifier if self.model.main_input_name == "pixel_values" else TextClassifier
        if is_pooled(self.model):
            kind = SentenceEncoder
        return kind(self.model, self.tokenizer)

    def __repr__(self) -> str:
        n_epochs = len(self.history)
        epochs = f"{n_epochs} epoch{'s' * (n_epochs != 1)}"
        return f"DistilledStudent({self.classifier!r}, {epochs}, saved in {self.output_dir})"
