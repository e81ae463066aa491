from .baselines import (
    linear_baseline as linear_baseline,
)
from .calibration import (
    fit_temperature as fit_temperature,
    reliability_bins as reliability_bins,
)
from .embeddings import (
    similarity_rank_correlation as similarity_rank_correlation,
)
from .measures import (
    agreement as agreement,
    classification_metrics as classification_metrics,
    compare as compare,
    expected_calibration_error as expected_calibration_error,
    measure_latency as measure_latency,
    measure_throughput as measure_throughput,
    model_size as model_size,
)
from .model_rows import (
    evaluate as evaluate,
)
from .plots import (
    plot_compare as plot_compare,
    plot_history as plot_history,
)
from .task_metrics import (
    multi_label_metrics as multi_label_metrics,
    regression_metrics as regression_metrics,
    token_classification_metrics as token_classification_metrics,
)
