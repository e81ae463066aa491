from . import (
    batches as batches,
    collecting as collecting,
    costs as costs,
    journal as journal,
    labels as labels,
    review as review,
    teachers as teachers,
)
from .batches import (
    fetch_batch_results as fetch_batch_results,
    merge_batch_results as merge_batch_results,
    submit_batch as submit_batch,
    write_batch_requests as write_batch_requests,
)
from .collecting import (
    APIDistillationDataCollector as APIDistillationDataCollector,
    Collection as Collection,
    TaskExample as TaskExample,
    TeacherUnavailableError as TeacherUnavailableError,
)
from .costs import (
    Budget as Budget,
    estimate_api_distillation_cost as estimate_api_distillation_cost,
    load_prices as load_prices,
)
from .journal import (
    Journal as Journal,
    JournalRecord as JournalRecord,
    read_journal as read_journal,
)
from .journal_dataset import (
    JournalDataset as JournalDataset,
    dataset_from_journal as dataset_from_journal,
    text_examples as text_examples,
)
from .labels import (
    probabilities_from_logprobs as probabilities_from_logprobs,
    probabilities_from_samples as probabilities_from_samples,
)
from .review import (
    filter_records as filter_records,
    review_items as review_items,
    review_widget as review_widget,
)
from .teachers import (
    AnthropicTeacher as AnthropicTeacher,
    LocalServer as LocalServer,
    OpenAITeacher as OpenAITeacher,
    Teacher as Teacher,
    TeacherAnswer as TeacherAnswer,
    Usage as Usage,
    local_server as local_server,
    make_teacher as make_teacher,
)
