from .binary_divergences import (
    binary_divergence as binary_divergence,
    mean_binary_divergence as mean_binary_divergence,
)
from .causal_alignment import causal_shift as causal_shift
from .distillation_config import (
    ATTENTION_TARGETS as ATTENTION_TARGETS,
    RELATIONS as RELATIONS,
    DistillationConfig as DistillationConfig,
)
from .distillation_loss import (
    IGNORE_INDEX as IGNORE_INDEX,
    DistillationLoss as DistillationLoss,
    count_items as count_items,
)
from .divergence_gradients import (
    GRADIENTS as GRADIENTS,
    divergence_and_gradient as divergence_and_gradient,
)
from .divergences import (
    DIVERGENCES as DIVERGENCES,
    forward_kl as forward_kl,
    generalized_jsd as generalized_jsd,
    reverse_kl as reverse_kl,
    skew_kl as skew_kl,
    skew_reverse_kl as skew_reverse_kl,
)
from .feature_losses import (
    attention_distribution_loss as attention_distribution_loss,
    attention_score_loss as attention_score_loss,
    cosine_loss as cosine_loss,
    hidden_state_loss as hidden_state_loss,
    relation_loss as relation_loss,
)
from .feature_terms import (
    FeatureTerms as FeatureTerms,
)
from .hard_labels import (
    TASKS as TASKS,
    squared_score_error as squared_score_error,
)
from .layer_maps import (
    LAYER_MAPS as LAYER_MAPS,
    alternating_layers as alternating_layers,
    layer_map as layer_map,
)
from .soft_targets import (
    masked_mean as masked_mean,
    mean_divergence as mean_divergence,
    mean_per_item as mean_per_item,
    soft_target_divergence as soft_target_divergence,
)
