"""What came out of the training: how good, how faithful to the teacher, how calibrated, how large, how fast.

* `model_rows`: one row for a model (`evaluate`), with the figures of its task;
* `measures`: the figures of one class for each text, size and speed; one table for several models (`compare`);
* `task_metrics`: the figures of several labels, of scores and of the classes of tokens;
* `embeddings`: whether two models find the same texts similar;
* `calibration`: reliability bins, and the temperature that calibrates a model;
* `baselines`: the linear model of words that a student has to beat;
* `plots`: the history of a run, and several models beside each other.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
