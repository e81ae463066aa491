from .data_driven_recipe import (
    data_driven as data_driven,
)
from .distilbert_recipe import (
    distilbert as distilbert,
)
from .minilm_recipe import (
    minilm as minilm,
)
from .prune_and_heal_recipe import (
    prune_and_heal as prune_and_heal,
)
from .stages import (
    Training as Training,
    hard_label_baseline as hard_label_baseline,
    random_twin as random_twin,
)
from .tinybert_recipe import (
    tinybert as tinybert,
)
