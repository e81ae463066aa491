from .collector import (
    APIDistillationDataCollector as APIDistillationDataCollector,
    Collection as Collection,
    TaskExample as TaskExample,
)
from .worker_pool import (
    TeacherUnavailableError as TeacherUnavailableError,
)
