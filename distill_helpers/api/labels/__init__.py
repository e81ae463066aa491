"""From a teacher's answers to soft labels: the label that a text names, log-probabilities, samples, and label bias."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
