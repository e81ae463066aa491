"""The journal: each answer is a line on the disk before the next question is asked."""

import lazy_loader

from distill_helpers.data.installed_files import require_package

# Here, so that the error of the missing package names the extra, whichever module of this folder is imported.
require_package("msgspec", "The journal of teachers' answers", extra="api")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
