from .checkpoints import (
    claim_checkpoints as claim_checkpoints,
    describe_run as describe_run,
    newest_checkpoint as newest_checkpoint,
)
from .dataset import (
    DistillationCollator as DistillationCollator,
    DistillationDataset as DistillationDataset,
)
from .distilled_student import (
    DistilledStudent as DistilledStudent,
)
from .findings import (
    Finding as Finding,
)
from .fine_tuning import (
    fine_tune_teacher as fine_tune_teacher,
)
from .image_dataset import (
    ImageDistillationCollator as ImageDistillationCollator,
    ImageDistillationDataset as ImageDistillationDataset,
)
from .model_card import (
    write_model_card as write_model_card,
)
from .pair_checks import (
    check_pair as check_pair,
)
from .preflight_report import (
    PreflightReport as PreflightReport,
    preflight as preflight,
)
from .projectors import (
    remove_projectors as remove_projectors,
)
from .token_dataset import (
    TokenClassificationCollator as TokenClassificationCollator,
    TokenClassificationDataset as TokenClassificationDataset,
)
from .train_student import (
    train_student_with_distillation as train_student_with_distillation,
)
from .trainer import (
    DistillationTrainer as DistillationTrainer,
)
from .validation_metrics import (
    SELECTIONS as SELECTIONS,
)
