from .cache import (
    SHARD_SIZE as SHARD_SIZE,
    cache_key as cache_key,
    compute_in_shards as compute_in_shards,
    model_key as model_key,
    read_or_compute as read_or_compute,
    read_shard as read_shard,
    settings_of as settings_of,
    tensor_bytes as tensor_bytes,
    weights_fingerprint as weights_fingerprint,
    write_shard as write_shard,
)
from .embeddings import (
    fit_pca as fit_pca,
    precompute_teacher_embeddings as precompute_teacher_embeddings,
    project as project,
)
from .features import (
    TeacherFeatures as TeacherFeatures,
    pad_features as pad_features,
    precompute_teacher_features as precompute_teacher_features,
    take_features as take_features,
)
from .image_logits import (
    precompute_teacher_image_logits as precompute_teacher_image_logits,
)
from .logits import (
    precompute_teacher_logits as precompute_teacher_logits,
)
from .several_teachers import (
    combine_teacher_logits as combine_teacher_logits,
    precompute_combined_logits as precompute_combined_logits,
    weights_by_label as weights_by_label,
)
from .word_logits import (
    precompute_teacher_word_logits as precompute_teacher_word_logits,
)
