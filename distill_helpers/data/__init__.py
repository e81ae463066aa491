"""Messages in three splits: your own files, a Hugging Face data set, or the course's data sets.

* `labelled_texts`: `LabelledTexts` and `TextSplits`;
* `own_data`: your own CSV files, or a Hugging Face data set; `label_names` cleans and orders their classes, and
  `numbered_texts` finds what their sets share;
* `corpora`: the course's data sets, which are installed as packages (`installed_files` finds and checks their files);
* `augmentation`: new messages for the teacher to label;
* `near_duplicates`: texts that say the same thing with a few letters or words changed;
* `markdown`: names and texts as plain text in Markdown.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
