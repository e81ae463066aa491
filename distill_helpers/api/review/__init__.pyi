from .quality_filters import (
    REFUSALS as REFUSALS,
    FilteredRecords as FilteredRecords,
    SetAside as SetAside,
    filter_records as filter_records,
    is_refusal as is_refusal,
    modal_share as modal_share,
    pairwise_agreement as pairwise_agreement,
)
from .sampling import (
    ReviewItem as ReviewItem,
    review_items as review_items,
)
from .sheet import (
    RIGHT as RIGHT,
    UNSURE as UNSURE,
    WRONG as WRONG,
    ReviewedAccuracy as ReviewedAccuracy,
    ReviewSheet as ReviewSheet,
    ReviewVerdict as ReviewVerdict,
    wilson_interval as wilson_interval,
)
from .widget import (
    review_widget as review_widget,
)
