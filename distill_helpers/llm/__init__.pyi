from .completion_batches import (
    CompletionCollator as CompletionCollator,
)
from .completion_dataset import (
    CompletionDataset as CompletionDataset,
)
from .completion_stream import (
    CompletionStream as CompletionStream,
)
from .cross_tokenizer import (
    universal_logit_distance as universal_logit_distance,
)
from .dense_targets import (
    DenseTargets as DenseTargets,
    HiddenTargets as HiddenTargets,
)
from .evaluation import (
    evaluate_language_model as evaluate_language_model,
)
from .fused_loss import (
    fused_distillation_loss as fused_distillation_loss,
)
from .message_filters import (
    filter_messages as filter_messages,
)
from .on_policy import (
    on_policy_batch as on_policy_batch,
)
from .output_heads import (
    OutputHead as OutputHead,
    last_hidden_states as last_hidden_states,
    logits_of as logits_of,
    output_head as output_head,
)
from .sequence_level import (
    Completions as Completions,
    teacher_completions as teacher_completions,
)
from .synthetic_data import (
    SyntheticMessage as SyntheticMessage,
    write_messages as write_messages,
)
from .target_kinds import (
    KINDS as KINDS,
    SampledTargets as SampledTargets,
    TopKTargets as TopKTargets,
)
from .token_level import (
    compute_token_level_distillation_loss as compute_token_level_distillation_loss,
)
from .token_target_store import (
    TokenTargetStore as TokenTargetStore,
    precompute_token_targets as precompute_token_targets,
)
from .token_targets import (
    TargetSettings as TargetSettings,
    TokenTargets as TokenTargets,
    target_divergence as target_divergence,
)
from .trainer import (
    LLMDistillationTrainer as LLMDistillationTrainer,
)
from .written_targets import (
    WrittenTargets as WrittenTargets,
)
