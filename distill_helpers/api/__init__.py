"""Teachers behind an API: ask each question once, keep every answer, and make a student's training set of the answers.

A collection in three lines; "anthropic" works like "openai". If it is interrupted, run the same lines again:

    from distill_helpers.api import APIDistillationDataCollector, Budget
    collector = APIDistillationDataCollector("openai", "gpt-4o-mini", "Name the queue.", max_tokens=20)
    collection = collector.collect(texts, "answers.jsonl", max_concurrent=20, budget=Budget(usd=5))

Its journal becomes a training set, and the training set a student (`help(distill_helpers)`):

    train = dataset_from_journal("answers.jsonl", label_names, student.tokenizer)

The folders, in the order in which you meet them:

* `teachers`: OpenAI's and Anthropic's dialects, and a local server for a language model of your own;
* `collecting`: each input is asked once, at constant concurrency, and an interrupted run can be continued;
* `journal`: where every answer is kept;
* `costs`: dated prices, an estimate before a collection, and a limit that holds while it runs;
* `batches`: the providers' batch APIs, which write to the same journal;
* `labels`: from answers to soft labels, by log-probabilities or samples, with the teacher's label bias removed;
* `review`: which answers a student may learn from, by filters and by a person's verdicts.

The module `journal_dataset` makes the training set from a journal. It is the only one that needs torch.

Install the extra `api` first: `pip install "distill-helpers[api]"`. For a local server, install the extra
`local-server` too.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
