"""The weak teacher's experiments: the questions, the log, and the targets of each arm's student."""

import json

import numpy as np
import pytest
import torch

from distill_helpers import IGNORE_INDEX, load_help_desk
from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.teachers.answers import TeacherAnswer, TokenLogprob, Usage
from distill_helpers.course.experiments import queue_teacher, weak_teacher
from distill_helpers.course.experiments.queue_teacher import (
    ANSWERS,
    EXAMPLES_PER_QUEUE,
    PARTS,
    QueueAnswers,
    examples_of,
    log_lines,
    messages_of,
    read_answers,
)
from distill_helpers.course.experiments.weak_teacher import (
    ALONE,
    ARMS,
    GRID,
    LOG,
    REFERENCES,
    Arm,
    results,
    student_of,
    summary,
    targets_of,
)
from distill_helpers.course.logs import RESULTS, read_log
from distill_helpers.data.labelled_texts import LabelledTexts


@pytest.fixture(scope="module")
def desk():
    return load_help_desk()


def test_the_examples_are_real_validation_messages_and_nothing_that_is_learned_or_tested(desk) -> None:
    examples = examples_of(desk)
    label_of = dict(zip(desk.validation.texts, desk.validation.labels, strict=True))
    assert len(examples) == EXAMPLES_PER_QUEUE * len(ANSWERS)
    assert all(ANSWERS[label_of[text]] == answer for text, answer in examples)
    shown = {text for text, _ in examples}
    assert len(shown) == len(examples)
    for part in PARTS:
        assert not shown & set(messages_of(desk, part).texts)


@pytest.mark.parametrize(("part", "n"), [("train", 2517), ("validation", 385), ("test", 400)])
def test_the_log_has_each_message_once(desk, part, n) -> None:
    answers = read_answers(part, desk)
    assert len(answers.texts) == len(answers.labels) == n
    assert answers.texts == list(messages_of(desk, part).texts)
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1)
    assert answers.probabilities.min() > 0
    assert ((answers.off_label_mass >= 0) & (answers.off_label_mass <= 1)).all()


def test_the_log_holds_no_text(desk) -> None:
    keys = {"part", "row", "written", "p", "off"}
    for line in (RESULTS / f"{queue_teacher.LOG}.jsonl").read_text().splitlines():
        assert json.loads(line).keys() == keys


def test_a_part_that_is_not_whole_is_refused(desk, tmp_path, monkeypatch) -> None:
    lines = (RESULTS / f"{queue_teacher.LOG}.jsonl").read_text().splitlines()
    monkeypatch.setattr(queue_teacher, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="make results"):
        read_answers("train", desk)
    (tmp_path / f"{queue_teacher.LOG}.jsonl").write_text("\n".join(lines[:-1]))
    last = json.loads(lines[-1])["part"]
    with pytest.raises(ValueError, match="make results"):
        read_answers(last, desk)
    with pytest.raises(ValueError, match="must be one of"):
        messages_of(desk, "transfer")


def answered(text: str, written: str, tokens: dict[str, float]) -> JournalRecord:
    place = tuple(TokenLogprob(token, float(np.log(p)), tuple(token.encode())) for token, p in tokens.items())
    answer = TeacherAnswer(written, "stop", "m", Usage(), (place,))
    return JournalRecord(key=text, input_text=text, sample=0, parameters={}, date="2026-01-01", answer=answer)


def test_a_line_says_what_was_written_and_how_likely_each_queue_was() -> None:
    messages = LabelledTexts(["one", "two", "one"], [3, 4, 3], ("g", "w", "p", "m", "u"))
    records = [
        answered("one", "Mac", {"Mac": 0.5, "Unix": 0.25, "The": 0.2}),
        answered("two", "The", {"The": 0.6, "Unix": 0.3}),
    ]
    lines = [json.loads(line) for line in log_lines("train", messages, records)]
    assert [line["row"] for line in lines] == [0, 1, 2]
    assert [line["written"] for line in lines] == [3, -1, 3]
    assert [line["off"] for line in lines] == [0.25, 0.7, 0.25]
    assert lines[0]["p"] == lines[2]["p"]
    assert lines[0]["p"][3] / lines[0]["p"][4] == pytest.approx(2, rel=1e-2)
    with pytest.raises(ValueError, match="no answer to train message 1"):
        log_lines("train", messages, records[:1])


def small_answers(n: int = 200) -> QueueAnswers:
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 5
    scores = 1.5 * np.eye(5)[labels] + generator.normal(size=(n, 5)) + [0, 0, 0, 0, 2]
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    written = p.argmax(axis=1)
    written[::10] = -1
    return QueueAnswers([f"m{i}" for i in range(n)], labels, written, p, np.zeros(n))


def test_answers_and_targets_are_printed_in_one_line() -> None:
    answers = small_answers()
    right = (answers.probabilities.argmax(axis=1) == answers.labels).mean()
    assert repr(answers) == f"QueueAnswers(200 messages, likeliest queue right in {right:.0%})"
    hard, soft = (targets_of(ARMS[arm], answers, 0) for arm in ("as written", "calibrated, 10% verified"))
    assert repr(hard) == f"Targets({len(hard.rows)} messages, hard labels, {hard.right:.0%} right)"
    assert repr(soft) == f"Targets({len(soft.rows)} messages, log-probabilities, alpha=0.5, {soft.right:.0%} right)"


def test_targets_are_what_the_arms_names_say() -> None:
    answers = small_answers()
    p = answers.probabilities
    of = {name: targets_of(arm, answers, seed=1) for name, arm in ARMS.items()}
    written = of["as written"]
    assert written.logits is None
    assert (answers.written[written.rows] == written.labels).all()
    assert len(written.rows) == 180
    torch.testing.assert_close(of["log-probabilities"].logits.double().exp(), torch.from_numpy(p))
    calibrated = of["calibrated"].logits.double()
    torch.testing.assert_close(calibrated.exp().sum(1), torch.ones(200, dtype=torch.float64))
    assert of["calibrated"].right > of["log-probabilities"].right
    assert (of["calibrated, likeliest queue"].labels == calibrated.argmax(1).numpy()).all()
    half = of["calibrated, surest half"]
    assert len(half.rows) == 100
    sure = calibrated.exp().amax(1).numpy()
    assert sure[half.rows].min() >= np.delete(sure, half.rows).max()
    for name in ("log-probabilities", "calibrated", "calibrated, surest half"):
        assert set(of[name].labels) == {IGNORE_INDEX}
        assert of[name].alpha == 1


@pytest.mark.parametrize("name", [name for name, arm in ARMS.items() if arm.verified])
def test_verified_labels_are_a_tenth_of_each_queue_and_the_true_ones(name) -> None:
    answers = small_answers()
    targets = targets_of(ARMS[name], answers, seed=1)
    known = targets.labels != IGNORE_INDEX
    assert (targets.labels[known] == answers.labels[targets.rows][known]).all()
    assert np.bincount(targets.labels[known]).tolist() == [4] * 5
    assert targets.alpha == ARMS[name].alpha < 1
    other = targets_of(ARMS[name], answers, seed=2)
    assert set(targets.rows[known]) != set(other.rows[other.labels != IGNORE_INDEX])


def test_the_verified_messages_of_a_seed_are_the_same_in_every_arm() -> None:
    answers = small_answers()
    known = []
    for arm in ARMS.values():
        if arm.verified:
            targets = targets_of(arm, answers, seed=3)
            known.append(set(targets.rows[targets.labels != IGNORE_INDEX]))
    assert len(known) == 4
    assert all(rows == known[0] for rows in known)
    alone = targets_of(ARMS[ALONE], answers, seed=3)
    assert set(alone.rows) == known[0], "nothing else is read"
    assert alone.logits is None


def test_verified_messages_are_kept_however_unsure_the_teacher_was() -> None:
    answers = small_answers()
    arm = Arm(soft=True, calibrated=True, surest=0.1, verified=0.1, alpha=0.5)
    targets = targets_of(arm, answers, seed=0)
    assert 20 < len(targets.rows) <= 40


@pytest.mark.parametrize("name", ["as written", "calibrated", "calibrated, 10% verified, alpha 0.1", ALONE])
def test_a_student_is_fitted_to_the_targets_of_its_arm(name, desk, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(weak_teacher, "fit_student", lambda *given: asked.append(given))
    targets, train = student_of(ARMS[name], seed=3)
    train("a recipe", "a folder")
    ((task, (texts, labels, logits), of_validation, config, recipe, seed, folder),) = asked
    expected = targets_of(ARMS[name], read_answers("train", desk), seed=3)
    np.testing.assert_array_equal(targets.rows, expected.rows)
    assert texts == [desk.train.texts[row] for row in expected.rows]
    assert labels == expected.labels.tolist()
    assert (task.name, recipe, seed, folder) == ("help-desk", "a recipe", 3, "a folder")
    assert (config.alpha, config.temperature) == (expected.alpha, 2.0)
    if expected.logits is None:
        assert logits is of_validation is None
    else:
        torch.testing.assert_close(logits, expected.logits)
        assert of_validation.shape == (len(desk.validation.texts), len(ANSWERS))
        shown = {text for text, _ in examples_of(desk)}
        even = [text in shown for text in desk.validation.texts]
        torch.testing.assert_close(of_validation[even].exp(), torch.full((len(shown), len(ANSWERS)), 0.2))


def test_the_log_of_students_is_whole() -> None:
    log = read_log(LOG)
    counts = log.groupby(["arm", "phase"]).size().unstack()
    assert set(counts.index) == set(ARMS)
    assert (counts["choice"] == len(GRID["learning_rate"])).all()
    seeds = log[log["phase"] == "result"].groupby("arm")["seed"].apply(sorted)
    assert set(map(tuple, seeds)) == {(0, 1, 2, 3, 4)}


def test_the_references_are_students_of_the_help_desk_on_the_same_seeds() -> None:
    table, runs = summary(), results()
    assert list(table.index) == list(runs["arm"].unique()) == [*ARMS, *REFERENCES.values()]
    of_help_desk = read_log("help-desk-students")
    for arm, name in REFERENCES.items():
        lines = of_help_desk[(of_help_desk["phase"] == "result") & (of_help_desk["arm"] == arm)]
        assert sorted(lines["seed"]) == [0, 1, 2, 3, 4]
        assert set(lines["max_steps"]) == {weak_teacher.MAX_STEPS}, "the longer training was chosen: not comparable"
        assert table.loc[name, "mean"] == pytest.approx(100 * lines["accuracy"].mean())
    lines = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8").split("\n\n")[0].splitlines()[2:]
    assert [float(line.split("|")[2]) for line in lines] == pytest.approx(table["mean"].tolist(), abs=0.051)
