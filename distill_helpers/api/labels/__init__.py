"""From a teacher's answers to soft labels: the label named in a text, log-probabilities, samples, label bias."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
