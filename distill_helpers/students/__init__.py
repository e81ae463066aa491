"""Students: small transformers, trimmed vocabularies, layers cut from a teacher, pruned teachers.

* `creation`: a new student, or some of the teacher's layers;
* `pruning`: a student made of the teacher's most important layers and neurons.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
