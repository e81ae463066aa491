"""Teachers behind an API: ask, keep every answer, and make a student's training set of them.

The modules in the order in which one meets them:

* `teachers`, `teacher_answers`: OpenAI's and Anthropic's dialects; `local_server`: a language model of your own;
* `collector`, `questions`, `worker_pool`, `journal`, `append_only`: every input asked once, every answer kept;
* `pricing`, `price_table`, `budget`: what it costs, before and meanwhile;
* `batch_jobs`, `batch_submission`, `batch_dialects`: the providers' batch APIs, into the same journal;
* `label_answers`, `label_probabilities`, `batch_calibration`: from answers to soft labels;
* `answer_quality`, `review`, `review_widget`: which answers may be learned from;
* `journal_dataset`: from the journal to a dataset; only here is torch needed.

Install the extra `api` for it: `pip install distill-helpers[api]`.
"""

from distill_helpers.api.budget import Budget
from distill_helpers.api.collector import APIDistillationDataCollector, Collection, TaskExample
from distill_helpers.api.journal import Journal, JournalRecord, read_journal
from distill_helpers.api.pricing import estimate_api_distillation_cost, load_prices
from distill_helpers.api.teacher_answers import TeacherAnswer, Usage
from distill_helpers.api.teachers import AnthropicTeacher, OpenAITeacher, Teacher, make_teacher
from distill_helpers.api.worker_pool import TeacherUnavailableError

__all__ = [
    "APIDistillationDataCollector",
    "AnthropicTeacher",
    "Budget",
    "Collection",
    "Journal",
    "JournalRecord",
    "OpenAITeacher",
    "TaskExample",
    "Teacher",
    "TeacherAnswer",
    "TeacherUnavailableError",
    "Usage",
    "estimate_api_distillation_cost",
    "load_prices",
    "make_teacher",
    "read_journal",
]
