"""The providers' batch APIs, at a lower price, into the same journal."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
