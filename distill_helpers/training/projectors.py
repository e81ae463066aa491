"""The feature terms of a training, and the projectors that are a part of the student while it trains."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.text_models import LanguageModel, TextClassifier
from distill_helpers.targets.features import TeacherFeatures

__all__ = ["feature_terms_for", "remove_projectors"]

# The attribute of the student under which the projectors are trained, and saved in checkpoints.
_PROJECTORS = "distillation_projectors"


def remove_projectors(model: PreTrainedModel) -> None:
    """Remove the projectors of feature distillation from a student, which does not need them to predict.

    A student of `DistillationTrainer` has projectors after training if its width differs from the teacher's.
    `train_student_with_distillation` has removed them already.

    Example:
        >>> student = dh.create_transformer(("mac", "windows"), vocab_size=1000, hidden_size=32)
        >>> config, shape = dh.DistillationConfig(intermediate_layers=True), dh.ModelShape.of(student)
        >>> terms = dh.FeatureTerms(config, shape, dh.ModelShape(2, 64, n_heads=2))
        >>> student.distillation_projectors = terms.projectors  # as `DistillationTrainer` does
        >>> before = student.num_parameters()
        >>> dh.remove_projectors(student)
        >>> before - student.num_parameters()  # two layers from width 32 to 64
        4224
    """
    if hasattr(model, _PROJECTORS):
        delattr(model, _PROJECTORS)


def feature_terms_for(
    model: PreTrainedModel,
    config: DistillationConfig,
    teacher: TextClassifier | LanguageModel | None,
    train_dataset: Any,
    seed: int,
) -> FeatureTerms | None:
    """The feature terms that the configuration turns on, None where there are none; their projectors join the model.

    Raises:
        TypeError: a model that would not save projectors in its checkpoints.
        ValueError: no teacher and no cached features, or cached features that lack what the terms compare.
    """
    if not config.uses_features:
        return None
    cached: TeacherFeatures | None = getattr(train_dataset, "teacher_features", None)
    if cached is not None:
        shape = cached.shape
    elif teacher is not None:
        shape = ModelShape.of(teacher.model)
    else:
        raise ValueError("feature terms are on: pass teacher=, or a train_dataset with teacher_features")
    terms = FeatureTerms(config, ModelShape.of(model), shape, seed)
    if cached is not None and (missing := set(terms.teacher_names) - set(cached.tensors)):
        raise ValueError(f"the cached teacher features lack {sorted(missing)}; compute {list(terms.teacher_names)}")
    if len(terms.projectors):
        if not isinstance(model, PreTrainedModel):
            raise TypeError(
                f"{type(model).__name__} would not save projectors in its checkpoints; train a whole model of"
                " transformers, or match features between equal widths"
            )
        setattr(model, _PROJECTORS, terms.projectors)
    return terms
