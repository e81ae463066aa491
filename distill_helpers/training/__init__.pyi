from .checkpoints import (
    claim_checkpoints as claim_checkpoints,
    describe_run as describe_run,
    newest_checkpoint as newest_checkpoint,
)
from .dataset import (
    DistillationCollator as DistillationCollator,
    DistillationDataset as DistillationDataset,
)
from .model_card import (
    write_model_card as write_model_card,
)
from .pair_checks import (
    Finding as Finding,
    check_pair as check_pair,
)
from .preflight_report import (
    PreflightReport as PreflightReport,
    preflight as preflight,
)
from .projectors import (
    remove_projectors as remove_projectors,
)
from .train_student import (
    DistilledStudent as DistilledStudent,
    train_student_with_distillation as train_student_with_distillation,
)
from .trainer import (
    DistillationTrainer as DistillationTrainer,
)
from .validation_metrics import (
    SELECTIONS as SELECTIONS,
)
