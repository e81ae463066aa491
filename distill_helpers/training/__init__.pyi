from .checkpoints import (
    claim_checkpoints as claim_checkpoints,
    newest_checkpoint as newest_checkpoint,
    run_key as run_key,
)
from .dataset import (
    DistillationCollator as DistillationCollator,
    DistillationDataset as DistillationDataset,
)
from .model_card import (
    write_model_card as write_model_card,
)
from .train_student import (
    DistilledStudent as DistilledStudent,
    train_student_with_distillation as train_student_with_distillation,
)
from .trainer import (
    DistillationTrainer as DistillationTrainer,
    remove_projectors as remove_projectors,
)
