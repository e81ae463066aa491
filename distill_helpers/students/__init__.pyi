from .creation import (
    create_student as create_student,
    create_transformer as create_transformer,
    cut_layers as cut_layers,
    narrow_student as narrow_student,
)
from .image_students import (
    create_image_student as create_image_student,
)
from .pruning import (
    feed_forward_importance as feed_forward_importance,
    layer_importance as layer_importance,
    prune as prune,
)
from .vocabulary import (
    project_embeddings as project_embeddings,
    trim_vocabulary as trim_vocabulary,
)
