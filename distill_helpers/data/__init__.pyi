from .augmentation import (
    augment_labelled_texts as augment_labelled_texts,
    augment_texts as augment_texts,
    drop_words as drop_words,
    splice as splice,
)
from .corpora import (
    HELP_DESK_QUEUES as HELP_DESK_QUEUES,
    ImageSplits as ImageSplits,
    Tales as Tales,
    cut_windows as cut_windows,
    load_banking77 as load_banking77,
    load_digits as load_digits,
    load_grimm_tales as load_grimm_tales,
    load_help_desk as load_help_desk,
    load_newsgroups as load_newsgroups,
)
from .labelled_images import (
    LabelledImages as LabelledImages,
)
from .labelled_texts import (
    IGNORE_INDEX as IGNORE_INDEX,
    LabelledTexts as LabelledTexts,
    TextSplits as TextSplits,
    split_off as split_off,
)
from .near_duplicates import (
    deduplicate as deduplicate,
)
from .own_data import (
    load_csv as load_csv,
    load_hf_dataset as load_hf_dataset,
)
