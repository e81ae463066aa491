"""Models and their tokenizers: loading them, running them on texts, and looking inside them.

* `loading`: classifiers and language models, from a folder, an installed package, or the Hub by choice;
* `text_models`: `TextClassifier` and `LanguageModel`, a model with its tokenizer; predictions and logits;
* `sentence_encoders`: `SentenceEncoder`, a model of sentence embeddings with its tokenizer;
* `batching`: from texts to padded batches;
* `prediction_tasks`: the kind of problem that a model solves;
* `architectures`: where a transformer keeps its layers and their parts;
* `features`, `capture`: hidden states, queries, keys and values of a forward pass;
* `manifest`: how a shipped model was made, and its hashes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
