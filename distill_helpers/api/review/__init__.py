"""Which answers a student may learn from: filters, a review by a person, and the accuracy that the review shows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
