"""Which checkpoint a killed run goes on from, and whose it is. Whole runs are resumed in test_train_student.py."""

import dataclasses
import json
import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainingArguments

from distill_helpers import DistillationConfig
from distill_helpers.training.checkpoints import (
    KeepWhole,
    claim_checkpoints,
    damaged_file,
    describe_run,
    differences,
    hashes_of,
    newest_checkpoint,
    read_record,
    write_atomically,
)


def make_checkpoint(folder, step, best=None):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (checkpoint / "optimizer.pt").write_bytes(b"moments")
    state = {"global_step": step, "best_model_checkpoint": None if best is None else str(folder / f"checkpoint-{best}")}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    KeepWhole(folder, lambda: None).on_save(None, SimpleNamespace(is_world_process_zero=True, global_step=step), None)
    return checkpoint


def test_the_newest_is_found_by_number_not_by_name(tmp_path):
    for step in (9, 100, 20):
        make_checkpoint(tmp_path, step)
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


def cut_short(path):
    os.truncate(path, 3)


def flip(path):
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
@pytest.mark.parametrize("damage", [cut_short, flip, Path.unlink])
def test_a_damaged_checkpoint_is_deleted_and_the_one_before_it_counts(tmp_path, name, damage):
    make_checkpoint(tmp_path, 10)
    broken = make_checkpoint(tmp_path, 20)
    damage(broken / name)
    with pytest.warns(UserWarning, match=f"checkpoint-20 is not whole .{name} is .* the run goes on from"):
        assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert not broken.exists()


@pytest.mark.parametrize(
    "hashes", [None, b"", b"null", b"[1]", b"\xff\xfe\x00", b'{"model.safetensors": "00"', b"{}", b"\0" * 40]
)
def test_hashes_that_are_missing_or_damaged_are_a_checkpoint_cut_short(tmp_path, hashes):
    make_checkpoint(tmp_path, 10)
    record = make_checkpoint(tmp_path, 20) / "files.sha256.json"
    record.unlink()
    if hashes is not None:
        record.write_bytes(hashes)
    with pytest.warns(UserWarning, match="checkpoint-20 is not whole"):
        assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("state", [b"null", b"\xff\xfe", b"[]"])
def test_a_state_that_is_no_state_is_damage_even_with_its_hash(tmp_path, state):
    checkpoint = make_checkpoint(tmp_path, 10)
    (checkpoint / "trainer_state.json").write_bytes(state)
    (checkpoint / "files.sha256.json").write_text(json.dumps(hashes_of(checkpoint, ["trainer_state.json"])))
    with pytest.warns(UserWarning, match=r"trainer_state\.json is damaged\); it is deleted, and the run starts anew"):
        assert newest_checkpoint(tmp_path) is None


def test_a_checkpoint_whose_best_epoch_is_damaged_does_not_count(tmp_path):
    make_checkpoint(tmp_path, 10, best=10)
    make_checkpoint(tmp_path, 20, best=10)
    flip(tmp_path / "checkpoint-10" / "model.safetensors")
    with pytest.warns(UserWarning, match="it needs checkpoint-10, the best epoch until then, where model.safetensors"):
        assert newest_checkpoint(tmp_path) is None


def test_several_cut_short_in_a_row(tmp_path):
    make_checkpoint(tmp_path, 10)
    for step in (20, 30):
        cut_short(make_checkpoint(tmp_path, step) / "optimizer.pt")
    with pytest.warns(UserWarning, match="is not whole") as seen:
        assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert len(seen) == 2


def test_none_where_there_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "never-made") is None


def test_whole_checkpoints_stay(tmp_path):
    for step in (10, 20):
        make_checkpoint(tmp_path, step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        newest_checkpoint(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-20"]


def test_the_owner_may_claim_again_and_another_may_not(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    claim_checkpoints(folder, {"seed": 0})
    claim_checkpoints(folder, {"seed": 0})
    with pytest.raises(ValueError, match="unfinished run") as error:
        claim_checkpoints(folder, {"seed": 1})
    assert str(folder) in str(error.value)
    assert "differs in seed (0 there, 1 here); choose another output_dir, or pass resume=False" in str(error.value)
    claim_checkpoints(folder, {"seed": 0})  # the refused one has not become the owner


@pytest.mark.parametrize("content", [None, b"", b"null", b"\xff\xfe", b'{"seed":', b"3f2a"])
def test_checkpoints_that_cannot_say_whose_they_are_are_refused_with_the_way_back(tmp_path, content):
    make_checkpoint(tmp_path, 10)
    if content is not None:
        (tmp_path / "run.key").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.key in it is missing or damaged.*pass resume=False to delete it"):
        claim_checkpoints(tmp_path, {"seed": 0})


@pytest.mark.parametrize("name", ["checkpoint-old", "checkpoint-", "notes.txt", "checkpoint-10-copy"])
def test_what_is_no_checkpoint_is_not_touched(tmp_path, name):
    claim_checkpoints(tmp_path, {"seed": 0})
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} is no checkpoint of this function.*move it elsewhere"):
        claim_checkpoints(tmp_path, {"seed": 0})


def test_what_a_kill_leaves_of_an_owner_is_no_hindrance(tmp_path):
    (tmp_path / "run.key.123.tmp").write_text("{")
    (tmp_path / "finished").mkdir()
    claim_checkpoints(tmp_path, {"seed": 0})
    assert read_record(tmp_path / "run.key") == {"seed": 0}


def test_a_record_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.key"
    write_atomically(path, {"seed": 0})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, {"seed": 1})
    assert read_record(path) == {"seed": 0}


def test_damage_is_named(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    hashes = hashes_of(tmp_path, ["a"])
    assert damaged_file(tmp_path, hashes) is None
    (tmp_path / "a").write_bytes(b"2")
    assert damaged_file(tmp_path, hashes) == "a is not as it was written"
    (tmp_path / "a").unlink()
    assert damaged_file(tmp_path, hashes) == "a is missing"


def test_differences_have_values_where_these_can_be_read():
    there = {"seed": 0, "divergence": "forward_kl", "texts": "0" * 64, "teacher": None}
    here = {"seed": 1, "divergence": "reverse_kl", "texts": "1" * 64, "teacher": "2" * 64}
    expected = "seed (0 there, 1 here), divergence ('forward_kl' there, 'reverse_kl' here), texts, teacher"
    assert differences(there, here) == expected
    assert differences(there, there) == ""


def test_the_description_is_that_of_the_run_not_of_the_place(tmp_path, make_classifier, make_sets):
    def key(where, config=DistillationConfig(), **settings):  # noqa: B008 - it can't be changed
        args = TrainingArguments(output_dir=str(tmp_path / where), use_cpu=True, report_to="none", **settings)
        return describe_run(make_classifier().model, *make_sets(), args, config)

    assert key("here") == key("there")
    assert key("here") != key("here", seed=7)
    relations = DistillationConfig(relations=("keys",))
    configs = [key("here", config) for config in (DistillationConfig(), relations, DistillationConfig(alpha=0.5))]
    assert all(configs[i] != configs[j] for i, j in [(0, 1), (0, 2), (1, 2)])
    again = DistillationConfig(**json.loads(json.dumps(dataclasses.asdict(relations))))
    assert key("here", again) == key("here", relations)
    write_atomically(tmp_path / "record", key("here", relations))
    assert read_record(tmp_path / "record") == key("here", relations)
