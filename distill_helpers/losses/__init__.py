"""What a student minimises. Needs torch alone.

* `divergences`: KL and its relatives; `divergence_gradients`: their gradients in closed form;
* `soft_targets`: a divergence of logits, with the temperature, T² and the mask;
* `binary_divergences`: the same for each label of a multi-label model; `hard_labels`: the labels of every task;
* `causal_alignment`: the shift of causal language models;
* `distillation_config`: the choices; `distillation_loss`: soft targets, hard labels and features in one loss;
* `layer_maps`, `feature_losses`, `feature_terms`: matching what goes on inside the two models.

The loss of language models, which never holds the logits of a batch, is `distill_helpers.llm.fused_loss`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
