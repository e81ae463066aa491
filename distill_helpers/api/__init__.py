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

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
