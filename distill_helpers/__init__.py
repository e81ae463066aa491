"""Knowledge distillation: divergences, losses, teacher targets, students, training and evaluation.

The modules in the order in which one meets them:

* `data`, `corpora`: messages in three splits, your own and the course's;
* `models`: teachers and students from a folder, an installed wheel, or the Hub by choice;
* `targets`: the teacher's logits, computed once and kept on disk;
* `divergences`, `losses`: what the student minimises;
* `fused_loss`, `token_targets`, `output_heads`, `divergence_gradients`: the same for vocabularies too large to hold
  logits of;
* `students`: small transformers, trimmed vocabularies, cuts from the teacher; `pruning`;
* `capture`, `layer_maps`, `feature_losses`, `feature_terms`, `feature_cache`: what goes on inside both models;
* `distillation_config`, `distillation_dataset`, `distillation_trainer`, `training`: the loop;
* `llm`: the same for causal language models;
* `calibration`, `evaluation`: what came out.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
