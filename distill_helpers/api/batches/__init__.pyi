from .files import (
    BatchFiles as BatchFiles,
    MergedBatch as MergedBatch,
    merge_batch_results as merge_batch_results,
    write_batch_requests as write_batch_requests,
)
from .submission import (
    fetch_batch_results as fetch_batch_results,
    submit_batch as submit_batch,
)
