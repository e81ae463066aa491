"""The experiment on words: marks are read off the tales, every arm has its runs, and the table is that of the log."""

import pytest

from distill_helpers.course.experiments.token_task import ARMS, LOG, MARKS, PASSAGE, marked_words, passages_of, summary
from distill_helpers.course.logs import RESULTS, read_log
from distill_helpers.data.corpora import load_grimm_tales


def test_marks_are_those_after_the_words() -> None:
    words, labels = marked_words("He said, ‘Give her -- at once; who’s there?’ and\nleft (at last).")
    assert words == ["he", "said", "give", "her", "at", "once", "who’s", "there", "and", "left", "at", "last"]
    assert [MARKS[label] for label in labels] == [
        *("none", "comma", "none", "none", "none", "stop", "none", "stop", "none", "none", "none", "stop")
    ]
    assert marked_words("one , two .") == (["one", "two"], [1, 2])
    assert marked_words(" — ") == ([], [])


def test_passages_are_whole_and_every_word_has_a_mark() -> None:
    passages = passages_of(load_grimm_tales().test)
    assert {len(words) for words in passages.texts} == {len(labels) for labels in passages.labels} == {PASSAGE}
    assert all(word == word.lower() and word.strip(".,;:!?") == word for words in passages.texts for word in words)


def test_the_table_is_that_of_the_log() -> None:
    log, table = read_log(LOG), summary()
    assert sorted(zip(log["arm"], log["seed"], strict=True)) == sorted(
        [("teacher", 0), *((arm, seed) for arm in ARMS for seed in range(5))]
    )
    assert log.groupby("arm")["learning_rate"].nunique()[list(ARMS)].tolist() == [1, 1, 1]
    page = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8")
    for arm, row in table.iterrows():
        [line] = [line for line in page.splitlines() if line.startswith(f"| {arm} ")]
        assert f"{row['macro-F1 %']:.1f}" in line
        assert f"{row['NLL']:.3f}" in line


def test_what_the_readme_says_of_it() -> None:
    """Distillation lowers the NLL of the student, and its macro-F1 as well."""
    table = summary()
    hard, same, more = (table.loc[arm] for arm in ARMS)
    assert [round(row["NLL"], 2) for row in (hard, same, more)] == [0.63, 0.51, 0.46]
    assert [round(row["gain"]) for row in (same, more)] == [-4, -6]
    assert all(row["gain"] + row["± 95%"] < 0 for row in (same, more))
    assert table.loc["teacher", "macro-F1 %"] == pytest.approx(55, abs=0.5)
