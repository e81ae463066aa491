"""Your own messages: CSV files and Hugging Face datasets, read as they are, with the row of whatever is wrong."""

import csv
from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from labelled_messages import NAMES, messages, rows_of

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
    rows = [(i, NAMES[i % 3], f"message {i}") for i in range(30)]
    file = write_csv(tmp_path / "all.csv", rows, header=("id", "queue", "body"))
    splits = load_csv(str(file), str(file), text_column="body", label_column="queue")
    assert rows_of(splits.test) == [(text, label) for _, label, text in rows]


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
    file = write_csv(tmp_path / "numbers.csv", [(f"message {i}", ("01", "1")[i % 2]) for i in range(40)])
    splits = load_csv(file, file)
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
