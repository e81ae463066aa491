"""What a teacher costs: dated prices, an estimate before a collection, and a limit that holds while it runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
