from .calibration import (
    fit_temperature as fit_temperature,
    reliability_bins as reliability_bins,
)
from .measures import (
    agreement as agreement,
    classification_metrics as classification_metrics,
    compare as compare,
    evaluate as evaluate,
    expected_calibration_error as expected_calibration_error,
    measure_latency as measure_latency,
    measure_throughput as measure_throughput,
    model_size as model_size,
)
