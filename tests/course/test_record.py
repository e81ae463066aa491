"""The reader's record: `check` notes what is right, notebook 00 shows it, and a new one keeps the old."""

from pathlib import Path

import pytest

from distill_helpers.course.exercises import check
from distill_helpers.course.folders import NOTEBOOKS, ROOT
from distill_helpers.course.record import forget, note_solved, numbers_of_exercises, record_file, solved
from distill_helpers.course.widgets.start_here import render_record


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILL_HELPERS_RECORD", str(tmp_path / "record.txt"))
    return tmp_path / "record.txt"


def cut(teacher_price: float, student_price: float) -> float:
    return 1 - student_price / teacher_price


def test_only_a_right_answer_is_noted_and_only_once(file: Path) -> None:
    check("00.1", lambda teacher_price, student_price: None)
    check("00.1", lambda teacher_price, student_price: student_price)
    assert not file.exists()
    for _ in range(2):
        check("00.1", cut)
    assert file.read_text() == "00.1\n"
    note_solved("03.2")
    assert solved() == ["00.1", "03.2"]


def test_the_record_is_shown_by_notebook_and_a_new_one_keeps_the_old(file: Path) -> None:
    assert f"0 of {len(numbers_of_exercises())} exercises solved" in render_record(False)
    note_solved("00.2")
    shown = render_record(False)
    assert "1 of 4" in shown
    assert "00.1 ○  00.2 ✓" in shown
    again = render_record(True)
    assert "00.2 ○" in again
    old = file.with_suffix(".old.txt")
    assert str(old) in again
    assert old.read_text() == "00.2\n"
    assert solved() == []
    assert forget() is None
    assert "There was no record." in render_record(True)


def test_a_record_that_was_written_by_hand_is_read_and_a_strange_line_is_refused(file: Path) -> None:
    file.write_text("01.2\n\n01.2\n00.1")
    assert solved() == ["01.2", "00.1"]
    file.write_text("01.2\n77.7\nhello\n")
    for ask in (solved, lambda: note_solved("00.1")):
        with pytest.raises(ValueError, match=r"record\.txt has lines that are no exercise: 77\.7, hello"):
            ask()
    assert file.read_text() == "01.2\n77.7\nhello\n"


def test_a_reader_has_it_beside_the_notebooks_where_git_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISTILL_HELPERS_RECORD")
    assert record_file() == NOTEBOOKS / "my-record.txt"
    assert "notebooks/my-record*.txt" in (ROOT / ".gitignore").read_text().splitlines()
