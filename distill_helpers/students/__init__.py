"""Students: small transformers, trimmed vocabularies, layers cut from a teacher, pruned teachers.

* `vocabulary`: a tokenizer that keeps the tokens in use, and the teacher's embeddings for these tokens;
* `creation`: a new student, or some of the teacher's layers;
* `pruning`: a student that keeps the teacher's most important layers and neurons.

This course's measurements suggest an order in which to try them. Trim the vocabulary first, because the word embeddings
are most of a small model's parameters. Then start the embeddings from the teacher's. Think about more layers last.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
