from . import (
    api as api,
    data as data,
    evaluation as evaluation,
    landmarks as landmarks,
    llm as llm,
    losses as losses,
    models as models,
    students as students,
    targets as targets,
    training as training,
)
from .data import (
    IGNORE_INDEX as IGNORE_INDEX,
    LabelledTexts as LabelledTexts,
    TextSplits as TextSplits,
    load_banking77 as load_banking77,
    load_csv as load_csv,
    load_digits as load_digits,
    load_grimm_tales as load_grimm_tales,
    load_help_desk as load_help_desk,
    load_hf_dataset as load_hf_dataset,
    load_newsgroups as load_newsgroups,
)
from .evaluation import (
    classification_metrics as classification_metrics,
    compare as compare,
    evaluate as evaluate,
    fit_temperature as fit_temperature,
    reliability_bins as reliability_bins,
)
from .llm import (
    DenseTargets as DenseTargets,
    HiddenTargets as HiddenTargets,
    OutputHead as OutputHead,
    SampledTargets as SampledTargets,
    TokenTargets as TokenTargets,
    TopKTargets as TopKTargets,
    fused_distillation_loss as fused_distillation_loss,
    output_head as output_head,
    target_divergence as target_divergence,
)
from .losses import (
    DistillationConfig as DistillationConfig,
    DistillationLoss as DistillationLoss,
    FeatureTerms as FeatureTerms,
    alternating_layers as alternating_layers,
    attention_distribution_loss as attention_distribution_loss,
    attention_score_loss as attention_score_loss,
    cosine_loss as cosine_loss,
    forward_kl as forward_kl,
    generalized_jsd as generalized_jsd,
    hidden_state_loss as hidden_state_loss,
    layer_map as layer_map,
    masked_mean as masked_mean,
    mean_divergence as mean_divergence,
    relation_loss as relation_loss,
    reverse_kl as reverse_kl,
    skew_kl as skew_kl,
    skew_reverse_kl as skew_reverse_kl,
    soft_target_divergence as soft_target_divergence,
)
from .models import (
    Features as Features,
    LanguageModel as LanguageModel,
    ModelShape as ModelShape,
    TextClassifier as TextClassifier,
    base_encoder_path as base_encoder_path,
    capture_features as capture_features,
    encode_texts as encode_texts,
    load_course_model as load_course_model,
    load_language_model as load_language_model,
    load_text_classifier as load_text_classifier,
    pad_batch as pad_batch,
    predict_logits as predict_logits,
)
from .students import (
    create_student as create_student,
    create_transformer as create_transformer,
    cut_layers as cut_layers,
    feed_forward_importance as feed_forward_importance,
    layer_importance as layer_importance,
    narrow_student as narrow_student,
    project_embeddings as project_embeddings,
    prune as prune,
    trim_vocabulary as trim_vocabulary,
)
from .targets import (
    TeacherFeatures as TeacherFeatures,
    precompute_teacher_features as precompute_teacher_features,
    precompute_teacher_logits as precompute_teacher_logits,
)
from .training import (
    DistillationCollator as DistillationCollator,
    DistillationDataset as DistillationDataset,
    DistillationTrainer as DistillationTrainer,
    DistilledStudent as DistilledStudent,
    remove_projectors as remove_projectors,
    train_student_with_distillation as train_student_with_distillation,
)

__version__: str
