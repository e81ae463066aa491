"""What a teacher says of your texts, computed once and kept on disk.

* `logits` and `image_logits`: the teacher's logits of texts and of images; `features`: its hidden states, queries, keys
  and values;
* `several_teachers`: one target out of several teachers' logits;
* `embeddings`: the embeddings of a teacher of sentence embeddings, and their principal components;
* `cache`: the folders, keys, shards and checksums of the files in which both are kept.

Targets of every token of a text are in `distill_helpers.llm.token_target_store`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
