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
    BatchFiles as BatchFiles,
    MergedBatch as MergedBatch,
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
    Price as Price,
    PriceTable as PriceTable,
    estimate_api_distillation_cost as estimate_api_distillation_cost,
    load_prices as load_prices,
)
from .journal import (
    Failure as Failure,
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
    LabelProbabilities as LabelProbabilities,
    batch_calibrated as batch_calibrated,
    label_named_in as label_named_in,
    matched_to_prior as matched_to_prior,
    probabilities_from_logprobs as probabilities_from_logprobs,
    probabilities_from_samples as probabilities_from_samples,
)
from .review import (
    FilteredRecords as FilteredRecords,
    ReviewItem as ReviewItem,
    ReviewSheet as ReviewSheet,
    filter_records as filter_records,
    review_items as review_items,
    review_widget as review_widget,
    wilson_interval as wilson_interval,
)
from .teachers import (
    AnthropicTeacher as AnthropicTeacher,
    LocalServer as LocalServer,
    OpenAITeacher as OpenAITeacher,
    Teacher as Teacher,
    TeacherAnswer as TeacherAnswer,
    TokenLogprob as TokenLogprob,
    Usage as Usage,
    local_server as local_server,
    make_teacher as make_teacher,
)
