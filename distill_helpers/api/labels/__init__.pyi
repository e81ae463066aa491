from .answer_parsing import (
    Answers as Answers,
    label_named_in as label_named_in,
)
from .label_bias import (
    batch_calibrated as batch_calibrated,
    matched_to_prior as matched_to_prior,
)
from .label_probabilities import (
    LabelProbabilities as LabelProbabilities,
    probabilities_from_logprobs as probabilities_from_logprobs,
    probabilities_from_samples as probabilities_from_samples,
    samples_of_inputs as samples_of_inputs,
)
