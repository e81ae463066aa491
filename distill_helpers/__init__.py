"""Knowledge distillation: divergences, losses, teacher targets, students, training and evaluation.

The modules in the order in which one meets them:

* `data`, `corpora`: messages in three splits, your own and the course's;
* `models`: teachers and students from a folder, an installed wheel, or the Hub by choice;
* `targets`: the teacher's logits, computed once and kept on disk;
* `divergences`, `losses`: what the student minimises;
* `fused_loss`, `token_targets`, `output_heads`, `divergence_gradients`: the same for vocabularies too large to hold
  logits of;
* `students`: small transformers, trimmed vocabularies, cuts from the teacher; `pruning`;
* `capture`, `layer_maps`, `feature_losses`, `feature_terms`, `feature_cache`: what goes on inside both models;
* `distillation_config`, `distillation_dataset`, `distillation_trainer`, `training`: the loop;
* `llm`: the same for causal language models;
* `calibration`, `evaluation`: what came out.
"""

from distill_helpers.calibration import fit_temperature, reliability_bins
from distill_helpers.capture import Features, capture_features
from distill_helpers.corpora import load_banking77, load_digits, load_grimm_tales, load_help_desk, load_newsgroups
from distill_helpers.data import LabelledTexts, TextSplits, load_csv, load_hf_dataset
from distill_helpers.distillation_config import DistillationConfig
from distill_helpers.distillation_dataset import DistillationCollator, DistillationDataset
from distill_helpers.distillation_trainer import DistillationTrainer, remove_projectors
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
from distill_helpers.feature_cache import TeacherFeatures, precompute_teacher_features
from distill_helpers.feature_losses import (
    attention_distribution_loss,
    attention_score_loss,
    cosine_loss,
    hidden_state_loss,
    relation_loss,
)
from distill_helpers.feature_terms import FeatureTerms, ModelShape
from distill_helpers.fused_loss import fused_distillation_loss
from distill_helpers.layer_maps import alternating_layers, layer_map
from distill_helpers.losses import IGNORE_INDEX, DistillationLoss
from distill_helpers.models import (
    LanguageModel,
    TextClassifier,
    load_course_model,
    load_language_model,
    load_text_classifier,
)
from distill_helpers.output_heads import OutputHead, output_head
from distill_helpers.pruning import feed_forward_importance, layer_importance, prune
from distill_helpers.students import (
    create_student,
    create_transformer,
    cut_layers,
    narrow_student,
    project_embeddings,
    trim_vocabulary,
)
from distill_helpers.targets import precompute_teacher_logits
from distill_helpers.token_targets import (
    DenseTargets,
    HiddenTargets,
    SampledTargets,
    TokenTargets,
    TopKTargets,
    target_divergence,
)
from distill_helpers.training import DistilledStudent, train_student_with_distillation

__version__ = "0.1.0"

__all__ = [
    "IGNORE_INDEX",
    "DenseTargets",
    "DistillationCollator",
    "DistillationConfig",
    "DistillationDataset",
    "DistillationLoss",
    "DistillationTrainer",
    "DistilledStudent",
    "FeatureTerms",
    "Features",
    "HiddenTargets",
    "LabelledTexts",
    "LanguageModel",
    "ModelShape",
    "OutputHead",
    "SampledTargets",
    "TeacherFeatures",
    "TextClassifier",
    "TextSplits",
    "TokenTargets",
    "TopKTargets",
    "alternating_layers",
    "attention_distribution_loss",
    "attention_score_loss",
    "capture_features",
    "classification_metrics",
    "compare",
    "cosine_loss",
    "create_student",
    "create_transformer",
    "cut_layers",
    "evaluate",
    "feed_forward_importance",
    "fit_temperature",
    "forward_kl",
    "fused_distillation_loss",
    "generalized_jsd",
    "hidden_state_loss",
    "layer_importance",
    "layer_map",
    "load_banking77",
    "load_course_model",
    "load_csv",
    "load_digits",
    "load_grimm_tales",
    "load_help_desk",
    "load_hf_dataset",
    "load_language_model",
    "load_newsgroups",
    "load_text_classifier",
    "masked_mean",
    "mean_divergence",
    "narrow_student",
    "output_head",
    "precompute_teacher_features",
    "precompute_teacher_logits",
    "project_embeddings",
    "prune",
    "relation_loss",
    "reliability_bins",
    "remove_projectors",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "soft_target_divergence",
    "target_divergence",
    "train_student_with_distillation",
    "trim_vocabulary",
]
