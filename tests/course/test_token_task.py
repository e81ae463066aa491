"""The experiment on words: marks are read off the tales, every arm has its runs, and the table is that of the log."""

from distill_helpers.course.experiments.fair_arms import chosen_settings
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
    results = log[log["phase"] == "result"]
    assert results.groupby("arm")["seed"].apply(sorted).to_dict() == {arm: [0, 1, 2, 3, 4] for arm in ARMS}
    assert list(chosen_settings(log).columns) == ["learning_rate"]
    assert list(table.index) == ["teacher", *ARMS]
    page = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8")
    for arm, row in table.iterrows():
        [line] = [line for line in page.splitlines() if line.startswith(f"| {arm} ")]
        assert f"{row['mean']:.1f}" in line
        assert f"{row['NLL']:.3f}" in line


def test_what_the_readme_says_of_it() -> None:
    """On the same passages, distillation lowers the NLL of the student and leaves macro-F1 where it is."""
    hard, same, more = (summary().loc[arm] for arm in ARMS)
    assert [round(row["NLL"], 2) for row in (hard, same, more)] == [0.77, 0.58, 0.48]
    assert [round(row["mean"], 1) for row in (hard, same)] == [42.5, 42.5]
    assert abs(same["difference"]) < same["± 95%"]
    assert round(more["difference"]) == -4
    assert [row["best epoch"].split(" of ")[1] for row in (hard, more)] == ["32", "8"]
