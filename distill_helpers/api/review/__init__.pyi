from .answer_quality import (
    FilteredRecords as FilteredRecords,
    SetAside as SetAside,
    filter_records as filter_records,
    is_refusal as is_refusal,
    modal_share as modal_share,
    pairwise_agreement as pairwise_agreement,
)
from .sheet import (
    RIGHT as RIGHT,
    UNSURE as UNSURE,
    WRONG as WRONG,
    ReviewedAccuracy as ReviewedAccuracy,
    ReviewItem as ReviewItem,
    ReviewSheet as ReviewSheet,
    review_items as review_items,
    wilson_interval as wilson_interval,
)
from .widget import (
    review_widget as review_widget,
)
