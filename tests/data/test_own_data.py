"""Your own messages: CSV files and Hugging Face datasets, read as they are, with the row of whatever is wrong."""

import csv
import re
from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict, Value
from hypothesis import given, settings, strategies as st
from labelled_messages import NAMES, messages, rows_of

from distill_helpers.data.labelled_texts import LabelledTexts, split_off, text_key
from distill_helpers.data.own_data import load_csv, load_hf_dataset


def write_csv(path, rows, header=("text", "label")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


# CSV files


@pytest.fixture
def csv_files(tmp_path):
    """A class-sorted training file and a test file in an order of its own."""
    train = write_csv(tmp_path / "train.csv", rows_of(messages([30, 30, 30])))
    test = write_csv(
        tmp_path / "test.csv", rows_of(messages([3, 3, 3], start=1000).subset([8, 0, 4, 1, 7, 2, 6, 3, 5]))
    )
    return train, test


def test_load_csv_takes_a_stratified_validation_set_out_of_training(csv_files):
    splits = load_csv(*csv_files, validation_size=9)
    assert Counter(splits.validation.labels) == {0: 3, 1: 3, 2: 3}
    assert sorted(rows_of(splits.train) + rows_of(splits.validation)) == sorted(rows_of(messages([30, 30, 30])))
    assert splits.label_names == splits.validation.label_names == splits.test.label_names == NAMES
    assert splits.transfer == ()


def test_load_csv_keeps_a_tenth_for_validation_by_default(csv_files):
    splits = load_csv(*csv_files)
    assert (len(splits.train), len(splits.validation)) == (81, 9)


def test_the_seed_moves_validation_and_never_the_test_set(csv_files):
    first, again, other = (load_csv(*csv_files, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.validation != other.validation
    assert first.test == other.test
    assert [int(text.split()[1]) - 1000 for text in other.test.texts] == [8, 0, 4, 1, 7, 2, 6, 3, 5]


def test_load_csv_uses_a_validation_file_as_it_is(csv_files, tmp_path):
    train, test = csv_files
    rows = [("late parcel", "delivery"), ("wrong bill", "billing")]
    validation = write_csv(tmp_path / "validation.csv", rows)
    splits = load_csv(train, test, validation=validation, validation_size=5)
    assert rows_of(splits.validation) == rows
    assert rows_of(splits.train) == rows_of(messages([30, 30, 30]))


def test_load_csv_reads_the_columns_that_are_named(tmp_path):
    rows = [(i, NAMES[i % 3], f"message {i}") for i in range(60)]
    header = ("id", "queue", "body")
    train, test = (
        write_csv(tmp_path / f"{name}.csv", part, header) for name, part in (("a", rows[:30]), ("b", rows[30:]))
    )
    splits = load_csv(str(train), str(test), text_column="body", label_column="queue")
    assert rows_of(splits.test) == [(text, label) for _, label, text in rows[30:]]


def test_load_csv_keeps_texts_as_they_were_written(csv_files, tmp_path):
    texts = [
        "two lines,\nand a comma",
        'she said "no"',
        "Grüße aus Zürich – 日本語 🙂",
        "NA",  # words that pandas would take for missing values
        "null",
        "007",
    ]
    test = write_csv(tmp_path / "odd.csv", [(text, "billing") for text in texts])
    assert load_csv(csv_files[0], test).test.texts == texts


def test_load_csv_reads_what_a_spreadsheet_saves(csv_files, tmp_path):
    test = tmp_path / "saved.csv"
    test.write_bytes("\ufefftext,label\r\nwhere is it?,delivery\r\n".encode())  # byte order mark, Windows line ends
    assert rows_of(load_csv(csv_files[0], test).test) == [("where is it?", "delivery")]


def test_labels_that_look_like_numbers_stay_names(tmp_path):
    rows = [(f"message {i}", ("01", "1")[i % 2]) for i in range(80)]
    splits = load_csv(write_csv(tmp_path / "a.csv", rows[:40]), write_csv(tmp_path / "b.csv", rows[40:]))
    assert splits.label_names == ("01", "1")
    assert splits.test.labels == [0, 1] * 20


@pytest.mark.parametrize("part", ["train", "test", "validation"])
def test_a_missing_file_is_named(csv_files, tmp_path, part):
    files = dict(zip(("train", "test"), csv_files, strict=True)) | {part: tmp_path / "absent.csv"}
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        load_csv(**files)


@pytest.mark.parametrize("part", ["train", "test", "validation"])
@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (("body", "label"), [("a", "billing")], r"bad\.csv: no column 'text', only \['body', 'label'\]"),
        (("text", "queue"), [("a", "billing")], r"bad\.csv: no column 'label', only \['text', 'queue'\]"),
        # Rows as a spreadsheet numbers them: the header is row 1, and a line break inside quotes starts no row.
        (("text", "label"), [("a", "billing"), ("", "returns")], r"bad\.csv, row 3: the text is empty"),
        (("text", "label"), [("a\nb\nc", "billing"), ("d", "returns"), ("  ", "returns")], r"row 4: the text is empty"),
        (("text", "label"), [(", and then", "a", "billing")], r"bad\.csv: row 2 has more fields than the header"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_row(csv_files, tmp_path, part, header, rows, message):
    bad = write_csv(tmp_path / "bad.csv", rows, header)
    files = dict(zip(("train", "test"), csv_files, strict=True)) | {part: bad}
    with pytest.raises(ValueError, match=message):
        load_csv(**files)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_label_that_training_does_not_have_is_refused(csv_files, tmp_path, part):
    bad = write_csv(tmp_path / "bad.csv", [("a", "billing"), ("b", "complaints")])
    files = dict(zip(("train", "test"), csv_files, strict=True)) | {part: bad}
    with pytest.raises(ValueError, match=r"bad\.csv, row 3: unknown label 'complaints'.*billing"):
        load_csv(**files)


def test_unquoted_commas_do_not_quietly_shorten_the_texts(csv_files, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\nhello, where is it,delivery\nwell, who knows,delivery\n", encoding="utf-8")
    with pytest.raises(ValueError, match="row 2 has more fields than the header; put a text with commas in quotes"):
        load_csv(csv_files[0], bad)


# Sets that share no text


def keys(data):
    return {text_key(text) for text in data.texts}


def assert_disjoint(splits):
    train, validation, test = map(keys, (splits.train, splits.validation, splits.test))
    assert len(train | validation | test) == len(train) + len(validation) + len(test)


def test_copies_within_the_training_file_stay_together_and_none_is_lost(csv_files, tmp_path):
    rows = [(f"same {i % 20}", "ab"[i % 2]) for i in range(100)]
    test = write_csv(tmp_path / "test.csv", [("another", "a")])
    for seed in range(5):
        splits = load_csv(write_csv(tmp_path / "train.csv", rows), test, seed=seed)
        assert_disjoint(splits)
        assert sorted(rows_of(splits.train) + rows_of(splits.validation)) == sorted(rows)
        assert len(splits.validation) == 10
        assert set(splits.validation.labels) == {0, 1}


def test_texts_that_differ_in_blanks_or_unicode_form_are_copies(tmp_path):
    forms = ["caf\u00e9  late", "cafe\u0301 late", " caf\u00e9 late\n"]
    rows = [(form, "a") for form in forms] + [(f"m {i}", "ab"[i % 2]) for i in range(40)]
    test = write_csv(tmp_path / "test.csv", [("m 3 ", "b")])
    for seed in range(8):
        with pytest.warns(UserWarning, match=r"train\.csv: 1 of 43 messages are also in .*test\.csv"):
            splits = load_csv(write_csv(tmp_path / "train.csv", rows), test, seed=seed)
        assert_disjoint(splits)
        assert len(splits.train) + len(splits.validation) == 42


def test_the_test_set_stays_and_its_texts_leave_the_other_sets(csv_files, tmp_path):
    train, test = csv_files
    validation = write_csv(
        tmp_path / "validation.csv", [("message 5", "billing"), ("message 1003", "delivery"), ("new", "billing")]
    )
    both = write_csv(tmp_path / "both.csv", [("message 1000", "billing"), *rows_of(messages([30, 30, 30]))])
    with pytest.warns(UserWarning, match="share no text") as caught:
        splits = load_csv(both, test, validation=validation)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    assert re.search(r"validation\.csv: 1 of 3 messages are also in .*test\.csv .*share no text: row 3$", said[0])
    assert re.search(r"both\.csv: 2 of 91 messages are also in .*test\.csv and .*tion\.csv.*: rows 2, 8$", said[1])
    assert splits.test == load_csv(train, test).test
    assert splits.validation.texts == ["message 5", "new"]
    assert len(splits.train) == 89
    assert_disjoint(splits)


def test_training_on_the_test_file_is_refused(csv_files):
    with pytest.raises(ValueError, match=r"90 of 90 messages are also in .*rows 2, 3, .*leaves no message at all"):
        load_csv(csv_files[0], csv_files[0])


def test_a_class_that_only_the_test_set_would_have_is_refused(csv_files, tmp_path):
    train = write_csv(tmp_path / "t.csv", [("message 1003", "delivery"), *((f"b {i}", "billing") for i in range(9))])
    test = write_csv(tmp_path / "u.csv", [("message 1003", "delivery")])
    with pytest.raises(
        ValueError, match=r"t\.csv: 1 of 10 .*\(row 2\), which leaves no message of the class 'delivery'"
    ):
        load_csv(train, test)


def test_a_text_with_two_labels_is_reported_with_its_rows(csv_files, tmp_path):
    rows = rows_of(messages([30, 30, 30]))
    train = write_csv(tmp_path / "mixed.csv", [*rows, ("message 0", "returns")])
    with pytest.warns(UserWarning, match=r"mixed\.csv: 1 texts .*: row 2 'billing', row 92 'returns'$"):
        splits = load_csv(train, csv_files[1])
    assert_disjoint(splits)
    assert len(splits.train) + len(splits.validation) == 91


def test_a_class_with_a_single_text_is_named_with_its_row(csv_files, tmp_path):
    for copies in (1, 4):
        rows = [*rows_of(messages([30, 30, 30])), *[("alone", "rare")] * copies]
        with pytest.raises(ValueError, match=r"rare\.csv, row 92: the label 'rare' has a single text"):
            load_csv(write_csv(tmp_path / "rare.csv", rows), csv_files[1])


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1)), min_size=60, max_size=120),
    seed=st.integers(0, 1000),
)
def test_whatever_repeats_the_split_is_disjoint_and_near_its_size(rows, seed):
    texts = [f"text {number}" for number, _ in rows] + [f"plain {i}" for i in range(20)]
    labels = [label for _, label in rows] + [0, 1] * 10
    data = LabelledTexts(texts, labels, ("a", "b"))
    rest, held_out = split_off(data, 20, seed)
    assert not keys(rest) & keys(held_out)
    assert sorted(rows_of(rest) + rows_of(held_out)) == sorted(rows_of(data))
    assert abs(len(held_out) - 20) <= max(Counter(texts).values())
    assert set(held_out.labels) == set(rest.labels) == {0, 1}


# Labels


def labelled_file(path, labels, start=0):
    return write_csv(path, [(f"text {start + i}", label) for i, label in enumerate(labels)])


@pytest.fixture
def split_by(tmp_path):
    """Load a training file with these labels, and a test file with others."""

    def load(labels, test_labels=None, **options):
        train = labelled_file(tmp_path / "train.csv", labels)
        test = labelled_file(tmp_path / "test.csv", test_labels or labels[:1], start=1000)
        return load_csv(train, test, **options)

    return load


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "2", "1"], ("1", "2", "10")),
        (["3", "-1", "0.5"], ("-1", "0.5", "3")),
        (["0.0", "1.0", "10.0", "2.0"], ("0.0", "1.0", "2.0", "10.0")),
        (["10", "2", "two"], ("10", "2", "two")),
        (["True", "False"], ("False", "True")),
    ],
)
def test_labels_that_are_all_numbers_are_in_the_order_of_numbers(split_by, labels, order):
    assert split_by(20 * labels).label_names == order


def test_the_order_of_the_classes_can_be_given(split_by):
    splits = split_by(20 * ["low", "high"], label_names=["low", "middle", "high"])
    assert splits.label_names == ("low", "middle", "high")
    assert set(splits.train.labels) == {0, 2}
    dataset = DatasetDict(train=class_label_split(TRAIN), test=string_split(TEST))
    ordered = load_hf_dataset(dataset, label_names=NAMES[::-1])
    assert ordered.label_names == NAMES[::-1]
    assert rows_of(ordered.test) == rows_of(TEST)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["low"], r"train\.csv, row 3: unknown label 'high'; training has \['low'\]"),
        (["low", "high", "low"], "label_names: the class 'low' is listed twice"),
        (["low", "high "], "label_names: 'high ' is not a name"),
        ([], r"label_names: pass a list of names, one for each class, got \(\)"),
        ([1, 2], "label_names: 1 is not a name"),
    ],
)
def test_an_order_that_cannot_be_is_refused(split_by, names, message):
    with pytest.raises(ValueError, match=message):
        split_by(20 * ["low", "high"], label_names=names)


def test_blanks_and_unicode_forms_make_no_new_class(split_by):
    with pytest.warns(UserWarning, match=r"train\.csv: .*'café' as 'café' \(row 2\) and 'cafe\u0301' \(row 3\)"):
        splits = split_by(10 * ["caf\u00e9", "cafe\u0301", "bar", " bar\u00a0"], ["cafe\u0301 "])
    assert splits.label_names == ("bar", "caf\u00e9")
    assert splits.test.labels == [1]


def test_classes_that_differ_in_capitals_or_unseen_characters_are_reported(split_by):
    for other in ("Mac", "m\u200bac"):
        with pytest.warns(UserWarning, match=r"train\.csv: .* are two classes, although they differ only in capitals"):
            assert len(split_by(10 * ["mac", other]).label_names) == 2


@pytest.mark.parametrize(
    ("labels", "test_labels", "message"),
    [
        (["1", "1.0"], None, r"train\.csv: '1' and '1\.0' are the same number; write them alike"),
        (["0", "1"], ["1.0"], r"test\.csv, row 2: unknown label '1\.0'; write it like '1'; training has \['0', '1'\]"),
        (["mac", "pc"], ["Mac"], r"test\.csv, row 2: unknown label 'Mac'; write it like 'mac'"),
        (["a", "nan"], None, r"train\.csv, row 3: the label 'nan' looks like a missing value"),
        (["a", "  "], None, r"train\.csv, row 3: the label is empty"),
    ],
)
def test_labels_that_may_mean_one_class_or_none_are_refused(split_by, labels, test_labels, message):
    with pytest.raises(ValueError, match=message):
        split_by(10 * labels, test_labels)


def test_a_class_called_nan_can_be_listed(split_by):
    assert split_by(10 * ["yue", "nan"], label_names=["nan", "yue"]).label_names == ("nan", "yue")


# Encodings and forms of files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,x\nth\u00e9,y\n".encode("cp1252"), r"bad\.csv is not in utf-8: byte 0xe9 in line 3; .*cp1252"),
        ("text,label\na,x\n".encode("utf-16"), r'bad\.csv is in UTF-16; .*encoding="utf-16"'),
        ("text,label\na,x\n".encode("utf-16-le"), r'no column .*the file is in UTF-16: pass `encoding="utf-16-le"`'),
        (b"text;label\na;x\n", r"the fields are divided by ';': pass `delimiter=';'`"),
        (b"text\tlabel\na\tx\n", r"divided by '\\t': pass `delimiter='\\t'`"),
        (b"text, label\na,x\n", r"no column 'label', only \['text', ' label'\]; pass the name with its blanks"),
        (b"text,text,label\na,b,x\n", r"the header has the column 'text' 2 times"),
        (b"text,label\n", r"bad\.csv has no rows"),
        (b"", r"bad\.csv is not a CSV file with a header line"),
        (b'text,label\na,x\n"b,x\n', r"bad\.csv is not a CSV file.*EOF inside string"),
        (b"text,label\na\n", r"bad\.csv, row 2: the label is empty"),
        (b"PK\x03\x04\xff\xfe\x00", r"bad\.csv"),
    ],
)
@pytest.mark.parametrize("part", ["train", "test", "validation"])
def test_a_file_in_another_form_is_refused_with_a_remedy(csv_files, tmp_path, content, message, part):
    (tmp_path / "bad.csv").write_bytes(content)
    files = dict(zip(("train", "test"), csv_files, strict=True)) | {part: tmp_path / "bad.csv"}
    with pytest.raises(ValueError, match=message):
        load_csv(**files)


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("cp1252", ";"), ("utf-16", "\t"), ("utf-8-sig", ","), ("utf-8", "|")]
)
def test_the_remedies_work(csv_files, tmp_path, encoding, delimiter):
    paths = []
    for name, start in (("train", 0), ("test", 500)):
        paths.append(tmp_path / f"{name}.csv")
        rows = [("text", "label"), *((f"caf\u00e9 {start + i}", "ab"[i % 2]) for i in range(30))]
        paths[-1].write_bytes("\n".join(delimiter.join(row) for row in rows).encode(encoding))
    splits = load_csv(*paths, encoding=encoding, delimiter=delimiter)
    assert splits.test.texts[0] == "caf\u00e9 500"
    with pytest.raises(ValueError, match=r"unknown encoding: latin-16; pass the name of an encoding"):
        load_csv(*paths, encoding="latin-16")


# Hugging Face datasets


def string_split(data):
    return Dataset.from_dict({"text": data.texts, "label": [data.label_names[i] for i in data.labels]})


def class_label_split(data, names=NAMES):
    labels = [names.index(data.label_names[i]) for i in data.labels]
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(names))})
    return Dataset.from_dict({"text": data.texts, "label": labels}, features=features)


TRAIN, TEST = messages([20, 20, 20]), messages([2, 1, 3], start=1000).subset([5, 0, 2, 4, 1, 3])


@pytest.mark.parametrize("as_split", [string_split, class_label_split])
def test_load_hf_dataset_takes_validation_out_of_training(as_split):
    dataset = DatasetDict(train=as_split(TRAIN), test=as_split(TEST))
    splits = load_hf_dataset(dataset, validation_size=12)
    assert Counter(splits.validation.labels) == {0: 4, 1: 4, 2: 4}
    assert sorted(rows_of(splits.train) + rows_of(splits.validation)) == sorted(rows_of(TRAIN))
    assert rows_of(splits.test) == rows_of(TEST)
    assert load_hf_dataset(dataset).validation != load_hf_dataset(dataset, seed=1).validation
    assert load_hf_dataset(dataset, seed=1).test == splits.test
    assert len(load_hf_dataset(dataset).validation) == 6


@pytest.mark.parametrize("as_split", [string_split, class_label_split])
def test_load_hf_dataset_uses_a_validation_split_as_it_is(as_split):
    own = messages([1, 2, 1], start=500)
    splits = load_hf_dataset(DatasetDict(train=as_split(TRAIN), validation=as_split(own), test=as_split(TEST)))
    assert rows_of(splits.validation) == rows_of(own)
    assert rows_of(splits.train) == rows_of(TRAIN)


def test_class_label_names_keep_their_order_and_string_labels_are_sorted():
    backwards = NAMES[::-1]
    splits = load_hf_dataset(
        DatasetDict(train=class_label_split(TRAIN, backwards), test=class_label_split(TEST, backwards))
    )
    assert splits.label_names == backwards
    assert rows_of(splits.test) == rows_of(TEST)
    shuffled = TRAIN.subset(range(len(TRAIN) - 1, -1, -1))
    assert load_hf_dataset(DatasetDict(train=string_split(shuffled), test=string_split(TEST))).label_names == NAMES


def test_a_split_that_numbers_its_classes_differently_is_read_by_its_own_names():
    dataset = DatasetDict(train=class_label_split(TRAIN), test=class_label_split(TEST, NAMES[::-1]))
    splits = load_hf_dataset(dataset)
    assert rows_of(splits.test) == rows_of(TEST)
    assert splits.test.label_names == NAMES


def test_load_hf_dataset_reads_the_columns_that_are_named():
    dataset = DatasetDict(train=string_split(TRAIN), test=string_split(TEST))
    renamed = dataset.rename_columns({"text": "utterance", "label": "intent"})
    assert load_hf_dataset(renamed, text_column="utterance", label_column="intent") == load_hf_dataset(dataset)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": TRAIN}, r"\['train'\]; `test` is needed"),
        ({"test": TEST}, r"\['test'\]; `train` is needed"),
        ({}, r"\[\]; `train` is needed"),
    ],
)
def test_a_missing_split_is_named(splits, message):
    with pytest.raises(ValueError, match=message):
        load_hf_dataset(DatasetDict({name: string_split(data) for name, data in splits.items()}))


@pytest.mark.parametrize("part", ["train", "test", "validation"])
@pytest.mark.parametrize("column", ["text", "label"])
def test_a_missing_column_is_named_with_its_split(part, column):
    splits = {"train": string_split(TRAIN), "test": string_split(TEST)}
    splits[part] = string_split(TEST).rename_column(column, "other")
    with pytest.raises(ValueError, match=f"split {part}: no column '{column}'.*other"):
        load_hf_dataset(DatasetDict(splits))


@pytest.mark.parametrize("part", ["test", "validation"])
def test_an_unknown_label_of_a_split_is_named_with_its_row(part):
    unknown = Dataset.from_dict({"text": ["a", "b"], "label": ["billing", "complaints"]})
    splits = {"train": string_split(TRAIN), "test": string_split(TEST)} | {part: unknown}
    with pytest.raises(ValueError, match=f"split {part}, row 1: unknown label 'complaints'"):
        load_hf_dataset(DatasetDict(splits))


def test_the_label_minus_one_of_unlabelled_hub_data_is_refused():
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(NAMES))})
    hidden = Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=features)
    with pytest.raises(ValueError, match="split test, row 1: unknown label 'class -1'"):
        load_hf_dataset(DatasetDict(train=class_label_split(TRAIN), test=hidden))


@pytest.mark.parametrize("text", ["", "  ", None])
def test_an_empty_text_of_a_split_is_named_with_its_row(text):
    bad = Dataset.from_dict({"text": ["a", text], "label": ["billing", "billing"]})
    with pytest.raises(ValueError, match="split test, row 1: the text is empty"):
        load_hf_dataset(DatasetDict(train=string_split(TRAIN), test=bad))


def hf_split(texts, labels):
    return Dataset.from_dict({"text": texts, "label": labels})


def test_the_splits_of_a_data_set_share_no_text_either():
    train = hf_split([f"same {i % 20}" for i in range(100)], 50 * ["a", "b"])
    with pytest.warns(
        UserWarning, match=r"split train: 5 of 100 messages are also in split test.*: rows 3, 23, 43, 63, 83$"
    ):
        splits = load_hf_dataset(DatasetDict(train=train, test=hf_split(["same  3"], ["b"])))
    assert_disjoint(splits)
    assert len(splits.train) + len(splits.validation) == 95


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 2, 1], ("1", "2", "10")),
        ([1.0, 0.0, 10.0], ("0.0", "1.0", "10.0")),
        ([True, False, True], ("False", "True")),
    ],
)
def test_numbers_without_names_are_classes_in_their_order(labels, names):
    train = hf_split([f"text {i}" for i in range(60)], 20 * labels)
    splits = load_hf_dataset(DatasetDict(train=train, test=hf_split(["new"], labels[:1])))
    assert splits.label_names == names
    assert splits.test.labels == [names.index(str(labels[0]))]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], ["billing", None], "split test, row 1: the label is empty"),
        (["a", "b"], [1.0, float("nan")], "split test, row 1: the label is empty"),
        (
            ["a", "b"],
            [["billing"], ["returns"]],
            r"split test, row 0: the label is \['billing'\] \(list\); a single name",
        ),
        ([1, 2], ["billing", "billing"], r"split test, row 0: the text is 1 \(int\), not a string"),
        (["a", "\u200b \n"], ["billing", "billing"], "split test, row 1: the text is empty"),
    ],
)
def test_a_split_with_missing_or_other_values_is_refused_with_its_row(texts, labels, message):
    numbers = not isinstance(labels[0], str | list)
    train = hf_split([f"m {i}" for i in range(40)], 20 * [1.0, 2.0]) if numbers else string_split(TRAIN)
    with pytest.raises(ValueError, match=message):
        load_hf_dataset(DatasetDict(train=train, test=hf_split(texts, labels)))


def test_a_class_label_that_is_missing_is_refused():
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(NAMES))})
    missing = Dataset.from_dict({"text": ["a", "b"], "label": [0, None]}, features=features)
    with pytest.raises(ValueError, match="split test, row 1: the label is empty"):
        load_hf_dataset(DatasetDict(train=class_label_split(TRAIN), test=missing))


def test_one_split_or_a_stream_is_refused_with_what_is_needed():
    with pytest.raises(TypeError, match="need a DatasetDict with the splits `train` and `test`, got Dataset"):
        load_hf_dataset(string_split(TRAIN))
    stream = IterableDatasetDict(
        train=string_split(TRAIN).to_iterable_dataset(), test=string_split(TEST).to_iterable_dataset()
    )
    with pytest.raises(TypeError, match="split train is a stream; load the data set without `streaming=True`"):
        load_hf_dataset(stream)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a CSV file"),
        ("text,label\na,x\nb,y,z\n", "not a CSV file"),
        ("text,label\na,x\n\nb,y\n", "row 3: the text is empty"),
        ("text,label\na,x\nb,\n", "row 3: the label is empty"),
    ],
)
def test_a_broken_csv_is_a_value_error_that_names_the_file(tmp_path, content, message):
    (tmp_path / "mine.csv").write_text(content)
    (tmp_path / "test.csv").write_text("text,label\na,x\n")
    with pytest.raises(ValueError, match=rf"mine\.csv.*{message}"):
        load_csv(tmp_path / "mine.csv", tmp_path / "test.csv")
