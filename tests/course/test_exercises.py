"""Every exercise: the solution is right, wrong answers get a message that helps, an empty one is not attempted."""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from distill_helpers.course.exercises import (
    Attempt,
    Wrong,
    check,
    compare,
    exercises,
    judge,
    needs_gradient,
    seeded_randn,
)
from distill_helpers.course.folders import SOLUTIONS, SOURCES, notebook_names

WRONG_ANSWERS = Path(__file__).parent / "wrong_answers"
NUMBERS = sorted(exercises())


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def functions(path: Path) -> dict[str, Callable]:
    module = load(path)
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: f for name, f in found if f.__module__ == module.__name__ and not name.startswith("_")}


def solution(number: str) -> Callable:
    *_, last = functions(SOLUTIONS / f"{number.replace('.', '_')}.py").values()
    return last


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_is_right_and_says_why(number: str) -> None:
    assert len(functions(SOLUTIONS / f"{number.replace('.', '_')}.py")) == 1
    verdict = judge(number, solution(number))
    assert verdict.status == "right", verdict.message
    assert len(verdict.message) > 30


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.slow
def test_an_empty_answer_is_not_attempted(number: str) -> None:
    def empty(*_args: object, **_options: object) -> None: ...

    def dots(*_args: object, **_options: object) -> object:
        return ...

    assert judge(number, empty).status == "not attempted"
    assert judge(number, dots).status == "not attempted"


def wrong_answers() -> list[tuple[str, str]]:
    return [
        (number, name) for number in NUMBERS for name in functions(WRONG_ANSWERS / f"{number.replace('.', '_')}.py")
    ]


@pytest.mark.parametrize(("number", "name"), wrong_answers())
def test_a_wrong_answer_is_told_what_is_wrong(number: str, name: str) -> None:
    answer = functions(WRONG_ANSWERS / f"{number.replace('.', '_')}.py")[name]
    assert answer.__doc__, "the docstring of a wrong answer is what the message must contain"
    verdict = judge(number, answer)
    assert verdict.status == "wrong", verdict
    assert answer.__doc__.strip().lower() in verdict.message.lower()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.slow
def test_three_wrong_answers_or_more_and_not_one_message_for_all(number: str) -> None:
    answers = functions(WRONG_ANSWERS / f"{number.replace('.', '_')}.py").values()
    assert len(answers) >= 3
    assert len({judge(number, answer).message for answer in answers}) >= 3


@pytest.mark.parametrize("number", NUMBERS)
def test_the_exercise_stands_in_its_notebook_with_two_hints_and_a_solution(number: str) -> None:
    (source,) = SOURCES.glob(f"{number[:2]}_*.py")
    text = source.read_text(encoding="utf-8")
    heading = rf"(?m)^# ### Exercise {re.escape(number)} · .+ \(★{{1,3}}, \d+ min\)$"
    assert len(re.findall(heading, text)) == 1, (
        f"{source.name} has no heading such as '### Exercise {number} · … (★★, 5 min)'"
    )
    section = re.split(heading, text)[1].split("# ### Exercise ")[0]
    assert section.count("<summary>Hint 1</summary>") == section.count("<summary>Hint 2</summary>") == 1
    assert f"<!-- solution {number} -->" in section
    (call,) = re.findall(rf'(?m)^check\("{re.escape(number)}", (\w+)\)$', section)
    assert call == solution(number).__name__, "the gap and the solution have different names"


def test_checks_are_found_by_the_name_of_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(importlib.import_module("distill_helpers.course.exercises").__file__ or "").parent
    names = {name[3:]: name[:2] for name in notebook_names()}
    modules = [path.stem for path in package.glob("[!_]*.py")]
    assert set(modules) <= names.keys(), "a module of checks without a notebook"
    assert {number[:2] for number in NUMBERS} == {names[module] for module in modules}
    monkeypatch.setattr("distill_helpers.course.exercises.notebook_names", lambda: ["00_no_exercises", "42_t_squared"])
    assert [*exercises()] == ["42.1", "42.2", "42.3", "42.4"]


def test_no_file_without_an_exercise() -> None:
    for folder in (SOLUTIONS, WRONG_ANSWERS):
        assert sorted(path.stem.replace("_", ".") for path in folder.glob("*.py")) == NUMBERS


def test_check_prints_and_raises_nothing_that_the_answer_raises(capsys: pytest.CaptureFixture[str]) -> None:
    def faulty(*_args: object) -> float:
        return 1 / 0

    check(NUMBERS[0], faulty)
    assert f"✗ {NUMBERS[0]} wrong: your function raised ZeroDivisionError: division by zero" in capsys.readouterr().out


def test_a_number_or_an_answer_that_does_not_exist_is_an_error() -> None:
    for number in ("99.9", "01.9", "01", ""):
        with pytest.raises(ValueError, match=rf"no exercise '{re.escape(number)}'; there are 00\.1, .*05\.4"):
            check(number, len)
    with pytest.raises(TypeError, match="without calling it; got float"):
        check(NUMBERS[0], 0.5)  # type: ignore[arg-type]


def test_judging_one_answer_imports_no_other_notebooks_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = []

    def record(name: str) -> ModuleType:
        imported.append(name)
        return importlib.import_module(name)

    monkeypatch.setattr("distill_helpers.course.exercises.import_module", record)
    judge("01.1", solution("01.1"))
    assert imported == ["distill_helpers.course.exercises.dark_knowledge"]


def test_compare_names_the_mistake_the_shape_and_the_values() -> None:
    compare(0.50000001, 0.5)
    with pytest.raises(Wrong, match="nats"):
        compare(0.25, 0.5, {"that is in nats": 0.25})
    with pytest.raises(Wrong, match=r"shape is \(2,\), expected \(\)"):
        compare(torch.zeros(2), 0.5)
    with pytest.raises(Wrong, match=r"got 0\.3, expected 0\.5"):
        compare(0.3, 0.5)
    with pytest.raises(Wrong, match="got str"):
        compare("0.5", 0.5)


def test_a_value_without_a_gradient_is_wrong() -> None:
    other = torch.ones((), requires_grad=True)
    for lose in (torch.Tensor.item, torch.Tensor.detach, lambda loss: loss.detach() * other):
        student = seeded_randn(3, 2, seed=0).requires_grad_()
        with pytest.raises(Wrong, match="no gradient reaches the student"):
            needs_gradient(lose(student.sum()), student)
    student = seeded_randn(3, 2, seed=0).requires_grad_()
    needs_gradient(2 * student, student)
    assert torch.equal(student.grad, torch.full((3, 2), 2.0))
    assert torch.equal(student, seeded_randn(3, 2, seed=0))
    assert not torch.equal(student, seeded_randn(3, 2, seed=1))


def test_an_attempt_hands_arguments_through() -> None:
    assert Attempt(max)(3, 5, key=lambda x: -x) == 3
