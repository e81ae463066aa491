"""Which checkpoint a killed run goes on from, and whose it is. Whole runs are resumed in test_train_student.py."""

import dataclasses
import json
import logging

import pytest
from transformers import TrainingArguments

from distill_helpers import DistillationConfig
from distill_helpers.training.checkpoints import claim_checkpoints, newest_checkpoint, run_key

STATE = json.dumps({"global_step": 1, "log_history": []})


def make_checkpoint(folder, step, state=STATE):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    if state is not None:
        (checkpoint / "trainer_state.json").write_text(state)
    return checkpoint


def test_the_newest_is_found_by_number_not_by_name(tmp_path):
    for step in (9, 100, 20):
        make_checkpoint(tmp_path, step)
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


@pytest.mark.parametrize("state", [None, "", STATE[:10], "\0" * 40], ids=["missing", "empty", "cut short", "zeros"])
def test_a_checkpoint_cut_short_is_deleted_and_the_one_before_it_counts(tmp_path, state, caplog):
    make_checkpoint(tmp_path, 10)
    broken = make_checkpoint(tmp_path, 20, state)
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert not broken.exists()
    assert str(broken) in caplog.text


def test_several_cut_short_in_a_row(tmp_path):
    make_checkpoint(tmp_path, 10)
    make_checkpoint(tmp_path, 20, "{")
    make_checkpoint(tmp_path, 30, None)
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_none_where_there_is_none_or_none_whole(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "never-made") is None
    make_checkpoint(tmp_path, 10, "{")
    assert newest_checkpoint(tmp_path) is None


def test_whole_checkpoints_stay(tmp_path):
    for step in (10, 20):
        make_checkpoint(tmp_path, step)
    newest_checkpoint(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-20"]


def test_the_owner_may_claim_again_and_another_may_not(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    claim_checkpoints(folder, "first")
    claim_checkpoints(folder, "first")
    with pytest.raises(ValueError, match="unfinished run") as error:
        claim_checkpoints(folder, "second")
    assert str(folder) in str(error.value)
    assert "resume=False" in str(error.value)
    claim_checkpoints(folder, "first")  # the refused one has not become the owner


def test_the_key_is_that_of_the_run_not_of_the_place(tmp_path, make_classifier, make_sets):
    def key(where, config=DistillationConfig(), **settings):  # noqa: B008 - it can't be changed
        args = TrainingArguments(output_dir=str(tmp_path / where), use_cpu=True, report_to="none", **settings)
        return run_key(make_classifier().model, *make_sets(), args, config)

    assert key("here") == key("there")
    assert key("here") != key("here", seed=7)
    relations = DistillationConfig(relations=("keys",))
    configs = (DistillationConfig(), relations, DistillationConfig(alpha=0.5))
    assert len({key("here", config) for config in configs}) == 3
    again = DistillationConfig(**json.loads(json.dumps(dataclasses.asdict(relations))))
    assert key("here", again) == key("here", relations)
