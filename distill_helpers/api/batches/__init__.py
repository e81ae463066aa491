"""The providers' batch APIs: about half the price, answers within a day, and the same journal."""

import lazy_loader

from distill_helpers.data.installed_files import require_package

require_package("msgspec", "A batch file", extra="api")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
