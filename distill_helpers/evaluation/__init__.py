"""What came out of the training: how good, how faithful to the teacher, how calibrated, how large, how fast.

* `measures`: one row for a model (`evaluate`), one table for several (`compare`);
* `calibration`: reliability bins, and the temperature that calibrates a model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
