"""What a teacher says of your texts, computed once and kept on disk.

* `logits`: its answers; `features`: its hidden states, queries, keys and values;
* `cache`: the folders, keys, shards and checksums that both are kept in.

Targets for every token of a text are in `distill_helpers.llm.token_target_store`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
