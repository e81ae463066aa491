"""Training: the right gradient, the best epoch, a saved folder that is complete, and the way back from a kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import training_runs
from training_runs import MID_THIRD_EPOCH, StopAt, flat, train, train_from, weights_sha256
from transformers import TrainerCallback

from distill_helpers import (
    DistillationCollator,
    DistillationConfig,
    DistillationDataset,
    DistillationLoss,
    TextClassifier,
    create_transformer,
    load_text_classifier,
)
from distill_helpers.models.text_models import predict_logits


def accuracy(model, data):
    batch = DistillationCollator(data.tokenizer)([data[i] for i in range(len(data))])
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return float((logits.argmax(-1) == batch["labels"]).double().mean())


def epoch_loss(student, data, config):
    """Every term of the loss over a whole data set at once."""
    batch = DistillationCollator(data.tokenizer)([data[i] for i in range(len(data))])
    with torch.no_grad():
        logits = student.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return DistillationLoss(config)(logits, batch.get("teacher_logits"), batch["labels"])


# The gradient


@pytest.mark.slow
def test_accumulated_batches_are_one_batch_in_the_whole_training(make_classifier, make_sets, tmp_path):
    results = [
        train(
            make_classifier(), make_sets(), tmp_path / str(size), batch_size=size, gradient_accumulation_steps=8 // size
        )
        for size in (8, 4, 2)
    ]
    for other in results[1:]:
        torch.testing.assert_close(flat(other.model), flat(results[0].model), atol=1e-5, rtol=0)
        pd.testing.assert_frame_equal(other.history.drop(columns="eval_loss"),
                                      results[0].history.drop(columns="eval_loss"), atol=1e-5)  # fmt: skip


def test_training_changes_every_matrix(make_classifier, make_sets, tmp_path):
    before = {name: tensor.clone() for name, tensor in make_classifier().model.state_dict().items()}
    after = train(make_classifier(), make_sets(), tmp_path, weight_decay=0.0).model.state_dict()
    assert [name for name in before if "weight" in name and torch.equal(before[name], after[name])] == []


@pytest.mark.slow
def test_with_alpha_0_the_teacher_does_not_matter(make_classifier, make_sets, tmp_path):
    config = DistillationConfig(alpha=0.0)
    runs = [
        train(make_classifier(), sets, tmp_path / str(i), config)
        for i, sets in enumerate([make_sets(logits_seed=1), make_sets(logits_seed=2), make_sets(with_logits=False)])
    ]
    assert torch.equal(flat(runs[0].model), flat(runs[1].model))
    assert torch.equal(flat(runs[0].model), flat(runs[2].model))
    assert "soft_target_loss" not in runs[0].history
    labels = train(make_classifier(), make_sets(label_shift=1), tmp_path / "labels", config)
    assert not torch.equal(flat(runs[0].model), flat(labels.model))


@pytest.mark.slow
def test_with_alpha_1_the_labels_do_not_matter(make_classifier, make_sets, tmp_path):
    config = DistillationConfig(alpha=1.0)
    unlabelled = make_sets()
    unlabelled[0].labels = [-100] * 48
    runs = [
        train(make_classifier(), sets, tmp_path / str(i), config)
        for i, sets in enumerate([make_sets(), make_sets(label_shift=1), unlabelled])
    ]
    assert torch.equal(flat(runs[0].model), flat(runs[1].model))
    assert torch.equal(flat(runs[0].model), flat(runs[2].model))
    assert "task_loss" not in runs[0].history
    teacher = train(make_classifier(), make_sets(logits_seed=1), tmp_path / "teacher", config)
    assert not torch.equal(flat(runs[0].model), flat(teacher.model))


@pytest.mark.slow
def test_the_seed_decides_the_weights(make_classifier, make_sets, tmp_path):
    runs = [
        train(make_classifier(dropout=0.1), make_sets(), tmp_path / str(i), seed=seed)
        for i, seed in enumerate([3, 3, 4])
    ]
    assert torch.equal(flat(runs[0].model), flat(runs[1].model))
    assert not torch.equal(flat(runs[0].model), flat(runs[2].model))
    pd.testing.assert_frame_equal(runs[0].history, runs[1].history)


# Steps


class RecordRates(TrainerCallback):
    def __init__(self):
        self.rates = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.mark.slow
def test_the_rate_rises_for_the_warm_up_share_and_falls_to_zero(make_classifier, make_sets, tmp_path):
    recorder = RecordRates()
    train(
        make_classifier(),
        make_sets(),
        tmp_path,
        n_epochs=5,
        batch_size=12,
        warmup_ratio=0.25,
        learning_rate=0.01,
        callbacks=[recorder],
    )
    assert len(recorder.rates) == 20
    torch.testing.assert_close(torch.tensor(recorder.rates[:6]), torch.arange(6) * 0.002)
    cosine = 0.005 * (1 + torch.cos(torch.pi * torch.arange(15) / 15))
    torch.testing.assert_close(torch.tensor(recorder.rates[5:]), cosine)


def test_gradients_are_clipped_at_a_norm_of_1(make_classifier, make_sets, tmp_path):
    applied = []

    class Norms(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            applied.append(
                float(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm())
            )

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "grad_norm" in logs:
                before.append(logs["grad_norm"])

    before = []
    train(make_classifier(), make_sets(), tmp_path, DistillationConfig(response_loss_weight=100), callbacks=[Norms()])
    assert min(before) > 2
    assert applied == pytest.approx([1.0] * 3, rel=1e-3)


# The history


@pytest.mark.parametrize("accumulation", [1, 2])
def test_logged_terms_are_those_of_the_loss(make_classifier, make_sets, tmp_path, accumulation):
    student, sets, config = make_classifier(), make_sets(), DistillationConfig(alpha=0.7, temperature=3.0)
    expected = epoch_loss(student, sets[0], config)
    result = train(
        student,
        sets,
        tmp_path,
        config,
        n_epochs=1,
        batch_size=12,
        learning_rate=1e-12,  # the student of the first step is that of the last
        gradient_accumulation_steps=accumulation,
    )
    (row,) = result.history.to_dict("records")
    assert row["soft_target_loss"] == pytest.approx(float(expected["soft_target_loss"]), rel=1e-4)
    assert row["task_loss"] == pytest.approx(float(expected["task_loss"]), rel=1e-4)
    assert row["loss"] == pytest.approx(float(expected["total_loss"]), rel=1e-4)
    assert row["epoch"] == 1


@pytest.mark.slow
def test_the_loss_is_the_weighted_sum_of_its_terms_in_every_epoch(make_classifier, make_sets, tmp_path):
    history = train(
        make_classifier(dropout=0.1), make_sets(), tmp_path, DistillationConfig(alpha=0.3), n_epochs=3, batch_size=10
    ).history
    columns = ["epoch", "loss", "soft_target_loss", "task_loss", "eval_loss", "eval_accuracy", "eval_nll"]
    assert list(history.columns) == [*columns, "eval_agreement", "eval_kl"]
    assert list(history["epoch"]) == [1, 2, 3]
    total = 0.3 * history["soft_target_loss"] + 0.7 * history["task_loss"]
    assert list(history["loss"]) == pytest.approx(list(total), abs=1e-4)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert not history.isna().any(axis=None)


def test_accuracy_is_over_all_validation_messages(make_classifier, make_sets, tmp_path):
    # 21 messages in batches of 16: a forgotten last batch, or a mean of means, would give another figure.
    sets = make_sets()
    result = train(make_classifier(seed=6), sets, tmp_path, n_epochs=1, batch_size=8)
    assert result.history["eval_accuracy"].item() == pytest.approx(accuracy(result.model, sets[1]))
    assert 0 < result.history["eval_accuracy"].item() < 1


# The best epoch, and what is saved


@pytest.fixture(scope="module")
def unlearned(make_classifier, contrary_sets, tmp_path_factory):
    return train(
        make_classifier(),
        contrary_sets,
        tmp_path_factory.mktemp("unlearned"),
        DistillationConfig(alpha=0),
        n_epochs=6,
        learning_rate=5e-3,
        batch_size=4,
        warmup_ratio=0.3,
    )


def test_the_student_of_the_best_epoch_is_returned_not_that_of_the_last(unlearned, contrary_sets):
    history = unlearned.history["eval_accuracy"]
    assert history.iloc[-1] < history.max()
    assert accuracy(unlearned.model, contrary_sets[1]) == pytest.approx(history.max())
    assert not unlearned.model.training


def test_the_saved_folder_is_the_returned_student(unlearned, help_desk):
    loaded = load_text_classifier(unlearned.output_dir, device="cpu")
    texts = help_desk.test.texts[:10]
    assert unlearned.classifier == TextClassifier(unlearned.model, unlearned.tokenizer)
    expected = predict_logits(unlearned.classifier, texts)
    assert torch.equal(predict_logits(loaded, texts), expected)
    assert loaded.tokenizer.get_vocab() == unlearned.tokenizer.get_vocab()
    assert loaded.label_names == help_desk.label_names


def test_the_repr_is_one_line_with_the_model_and_the_folder(unlearned):
    model = "TextClassifier(BertForSequenceClassification, 5 classes"
    size = f"{unlearned.model.num_parameters():,} parameters"
    saved = f"saved in {unlearned.output_dir}"
    assert repr(unlearned) == f"DistilledStudent({model}, {size}, cpu), 6 epochs, {saved})"
    shorter = unlearned._replace(history=unlearned.history[:1])
    assert repr(shorter) == f"DistilledStudent({model}, {size}, cpu), 1 epoch, {saved})"


def test_the_saved_folder_is_complete_and_holds_no_pickle(unlearned):
    files = {str(path.relative_to(unlearned.output_dir)) for path in unlearned.output_dir.rglob("*")}
    expected = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "history.csv"}
    assert files == expected | {"README.md", "finished-run.key"}  # no checkpoint, no *.bin, *.pt or *.pkl


def test_history_and_card_are_those_of_the_run(unlearned):
    saved = pd.read_csv(unlearned.output_dir / "history.csv")
    pd.testing.assert_frame_equal(saved, unlearned.history)
    best = unlearned.history["eval_accuracy"].argmax()
    card = (unlearned.output_dir / "README.md").read_text(encoding="utf-8")
    assert f"| best epoch | {best + 1} of 6 |" in card
    assert f"| validation accuracy | {unlearned.history['eval_accuracy'].max():.4f} |" in card


def test_a_student_that_gets_everything_wrong_is_saved_too(make_classifier, contrary_sets, tmp_path):
    train_set, _ = contrary_sets
    student = make_classifier()
    with torch.no_grad():
        student.model.classifier.bias[4] = 1e4  # always the class that no validation message of this set has
    never = DistillationDataset(["one", "two", "three"], [0, 1, 2], None, student.tokenizer)
    result = train(student, (train_set, never), tmp_path, DistillationConfig(alpha=0), learning_rate=1e-5)
    assert list(result.history["eval_accuracy"]) == [0]
    assert torch.equal(flat(load_text_classifier(tmp_path, device="cpu").model), flat(result.model))


@pytest.mark.slow
def test_a_folder_can_be_the_student(make_classifier, make_sets, tmp_path):
    student = make_classifier(seed=5)
    student.model.save_pretrained(tmp_path / "student")
    student.tokenizer.save_pretrained(tmp_path / "student")
    for path in (tmp_path / "student", str(tmp_path / "student")):
        from_folder = train(path, make_sets(), tmp_path / "from folder")
        assert torch.equal(
            flat(from_folder.model), flat(train(make_classifier(seed=5), make_sets(), tmp_path / "x").model)
        )


@pytest.mark.slow
def test_without_progress_nothing_is_printed_and_with_it_something_is(make_classifier, make_sets, tmp_path, capfd):
    train(make_classifier(), make_sets(), tmp_path / "a", n_epochs=1)
    assert capfd.readouterr().out == ""
    train(make_classifier(), make_sets(), tmp_path / "b", n_epochs=1, progress=True)
    printed = capfd.readouterr()
    assert "eval_accuracy" in printed.out + printed.err


# Kills and checkpoints


@pytest.fixture(scope="module")
def inputs(make_classifier, help_desk, tmp_path_factory):
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("inputs")
    model, tokenizer = make_classifier(seed=2, dropout=0.2)
    model.save_pretrained(folder / "student")
    tokenizer.save_pretrained(folder / "student")
    parts = {
        "train": help_desk.train.subset(range(0, 2496, 52)),
        "validation": help_desk.validation.subset(range(0, 399, 19)),
    }
    generator = torch.Generator().manual_seed(0)
    save_file(
        {name: torch.randn(len(data), 5, generator=generator) for name, data in parts.items()},
        folder / "logits.safetensors",
    )
    content = {name: {"texts": data.texts, "labels": data.labels} for name, data in parts.items()}
    (folder / "sets.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def uninterrupted(inputs, tmp_path_factory):
    return train_from(inputs, tmp_path_factory.mktemp("uninterrupted"))


CHILD = """
import sys
imported = set()
sys.addaudithook(lambda event, arguments: imported.add(arguments[0].split(".")[0]) if event == "import" else None)
import torch
torch.set_num_threads(int(sys.argv[1]))
import training_runs
class Report(training_runs.StopAt):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            print("tried to import:", sorted(imported & training_runs.TRACKERS), "transformers" in imported, flush=True)
        super().on_step_end(args, state, control, **kwargs)
training_runs.train_from(sys.argv[2], sys.argv[3], Report(training_runs.MID_THIRD_EPOCH, kill=True))
"""


@pytest.fixture(scope="module")
def killed(inputs, tmp_path_factory):
    """A process that was killed in its third epoch, and the folder that it left."""
    output = tmp_path_factory.mktemp("killed")
    arguments = [str(torch.get_num_threads()), str(inputs), str(output)]
    return run_child(arguments), output


def run_child(arguments):
    return subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        cwd=Path(training_runs.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_in_another_process_and_ends_with_the_same_bits(killed, inputs, uninterrupted):
    child, output = killed
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert (output / "checkpoints" / "checkpoint-6" / "trainer_state.json").is_file()
    assert not (output / "model.safetensors").exists()  # it had not finished
    recorder = RecordRates()
    train_from(inputs, output, recorder)
    assert len(recorder.rates) == 3  # the third epoch; its first steps had not been saved
    assert weights_sha256(output) == weights_sha256(uninterrupted.output_dir)
    assert (output / "history.csv").read_text() == (uninterrupted.output_dir / "history.csv").read_text()
    assert not (output / "checkpoints").exists()


@pytest.mark.slow
def test_no_tracker_is_imported_unless_it_is_named(killed):
    # Not even tried: an attempt would fail where the tracker is not installed.
    assert "tried to import: [] True" in killed[0].stdout


def interrupted(inputs, output, step=MID_THIRD_EPOCH):
    with pytest.raises(KeyboardInterrupt):
        train_from(inputs, output, StopAt(step))
    return output / "checkpoints"


@pytest.mark.slow
def test_batches_by_length_pad_less_and_show_every_message(make_classifier, make_sets, tmp_path, monkeypatch):
    seen = []
    collate = DistillationCollator.__call__
    monkeypatch.setattr(
        DistillationCollator, "__call__", lambda self, rows: seen.append(collate(self, rows)) or seen[-1]
    )

    def padding(**settings):
        data = make_sets()
        for row in range(0, len(data[0]), 3):  # a few long messages among short ones
            data[0].token_ids[row] = data[0].token_ids[row][:4]
        seen.clear()
        train(make_classifier(), data, tmp_path / str(settings), batch_size=2, **settings)
        batches = seen[: len(data[0]) // 2]
        rows = torch.cat([batch["teacher_logits"] for batch in batches])
        assert torch.equal(rows.sum(-1).sort().values, data[0].teacher_logits.sum(-1).sort().values)
        return sum(int((batch["attention_mask"] == 0).sum()) for batch in batches)

    assert padding(group_by_length=True) < 0.5 * padding()


@pytest.mark.slow
def test_batches_by_length_go_on_after_an_interrupt_with_the_same_bits(inputs, tmp_path):
    whole = train_from(inputs, tmp_path / "whole", group_by_length=True)
    with pytest.raises(KeyboardInterrupt):
        train_from(inputs, tmp_path / "parts", StopAt(MID_THIRD_EPOCH), group_by_length=True)
    train_from(inputs, tmp_path / "parts", group_by_length=True)
    assert weights_sha256(tmp_path / "parts") == weights_sha256(whole.output_dir)


@pytest.fixture(scope="module")
def interrupted_in_the_third_epoch(inputs, tmp_path_factory):
    return interrupted(inputs, tmp_path_factory.mktemp("interrupted")).parent


def flip_a_byte_in_the_middle(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: os.truncate(path, 100), flip_a_byte_in_the_middle],
    ids=["missing", "cut short", "flipped"],
)
@pytest.mark.parametrize(
    "name", ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"]
)
@pytest.mark.slow
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    inputs, uninterrupted, interrupted_in_the_third_epoch, tmp_path, damage, name
):
    folder = shutil.copytree(interrupted_in_the_third_epoch, tmp_path / "run")
    checkpoints = folder / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    damage(checkpoints / "checkpoint-6" / name)
    recorder = RecordRates()
    with pytest.warns(UserWarning, match=f"checkpoint-6 is not whole .*{re.escape(name)} is"):
        train_from(inputs, folder, recorder)
    assert len(recorder.rates) == 6
    assert weights_sha256(folder) == weights_sha256(uninterrupted.output_dir)
    assert (folder / "history.csv").read_text() == (uninterrupted.output_dir / "history.csv").read_text()


@pytest.fixture(scope="module")
def unfinished(make_classifier, make_sets, tmp_path_factory):
    """A run of two epochs, interrupted in its second."""
    folder = tmp_path_factory.mktemp("unfinished")
    with pytest.raises(KeyboardInterrupt):
        train(make_classifier(), make_sets(), folder, n_epochs=2, callbacks=[StopAt(5)])
    return folder


def with_labels_changed(sets, part):
    sets[part].labels[1] = (sets[part].labels[1] + 1) % 5
    return sets


OTHER_RUNS = {
    "n_epochs": {"n_epochs": 3},
    "learning_rate": {"learning_rate": 2e-3},
    "batch_size": {"batch_size": 8},
    "accumulation": {"gradient_accumulation_steps": 2},
    "group_by_length": {"group_by_length": True},
    "warmup_ratio": {"warmup_ratio": 0.2},
    "weight_decay": {"weight_decay": 0.02},
    "seed": {"seed": 1},
    "temperature": {"config": DistillationConfig(temperature=3.0)},
    "alpha": {"config": DistillationConfig(alpha=0.8)},
    "divergence": {"config": DistillationConfig(divergence="reverse_kl")},
}


@pytest.mark.parametrize("settings", OTHER_RUNS.values(), ids=OTHER_RUNS.keys())
def test_checkpoints_of_other_settings_are_refused(make_classifier, make_sets, unfinished, settings):
    with pytest.raises(ValueError, match="another student, data or settings"):
        train(make_classifier(), make_sets(), unfinished, **{"n_epochs": 2} | settings)
    assert (unfinished / "checkpoints" / "checkpoint-3").is_dir()  # a refusal deletes nothing


OTHER_INPUTS = {
    "weights": lambda classifier, sets: (classifier(seed=1), sets()),
    "dropout": lambda classifier, sets: (classifier(dropout=0.1), sets()),
    "teacher logits": lambda classifier, sets: (classifier(), sets(logits_seed=1)),
    "no teacher logits": lambda classifier, sets: (classifier(), sets(with_logits=False)),
    "training labels": lambda classifier, sets: (classifier(), with_labels_changed(sets(), 0)),
    "validation labels": lambda classifier, sets: (classifier(), with_labels_changed(sets(), 1)),
}


@pytest.mark.parametrize("other", OTHER_INPUTS.values(), ids=OTHER_INPUTS.keys())
def test_checkpoints_of_another_student_or_other_data_are_refused(make_classifier, make_sets, unfinished, other):
    student, sets = other(make_classifier, make_sets)
    alpha = 0.9 if sets[0].teacher_logits is not None else 0.0
    with pytest.raises(ValueError, match="another student, data or settings"):
        train(student, sets, unfinished, DistillationConfig(alpha=alpha), n_epochs=2)


@pytest.mark.slow
def test_resume_false_deletes_them(make_classifier, make_sets, unfinished, tmp_path):
    shutil.copytree(unfinished, tmp_path / "again")
    recorder = RecordRates()
    again = train(make_classifier(), make_sets(), tmp_path / "again", seed=1, resume=False, callbacks=[recorder])
    fresh = train(make_classifier(), make_sets(), tmp_path / "fresh", seed=1)
    assert len(recorder.rates) == 3
    assert torch.equal(flat(again.model), flat(fresh.model))


@pytest.mark.slow
def test_a_finished_run_is_read_back_with_a_word_and_made_again_on_demand(make_classifier, make_sets, tmp_path):
    student, sets = make_classifier(), make_sets()
    first = train(student, sets, tmp_path, n_epochs=1)
    steps = RecordRates()
    with pytest.warns(UserWarning, match="holds the finished student of this very call; the student is read back"):
        again = train(student, sets, tmp_path, n_epochs=1, callbacks=[steps])
    assert steps.rates == []
    assert torch.equal(flat(again.model), flat(first.model))
    assert not again.model.training
    pd.testing.assert_frame_equal(again.history, first.history)
    train(student, sets, tmp_path, n_epochs=1, callbacks=[steps], resume=False)
    assert len(steps.rates) == 3  # steps of an epoch


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"seed": 1}, r"differs in seed \(0 there, 1 here\); choose another output_dir, or pass resume=False"),
        ({"config": DistillationConfig(temperature=3.0)}, r"differs in temperature \(2\.0 there, 3\.0 here\);"),
        ({"n_epochs": 2, "learning_rate": 2e-3}, r"n_epochs \(1 there, 2 here\), learning_rate \(0\.001 there, 0\.002"),
        ({"metric_for_best_model": "nll"}, r"metric_for_best_model \('accuracy_then_nll' there, 'nll' here\)"),
        ({"student": 5}, r"differs in student's weights;"),
        ({"data": 5}, r"differs in teacher logits of the training texts, teacher logits of the validation texts;"),
    ],
)
@pytest.mark.slow
def test_a_finished_student_of_another_run_is_not_replaced(
    make_classifier, make_sets, finished, tmp_path, settings, what
):
    folder = shutil.copytree(finished, tmp_path / "finished")
    student, sets = make_classifier(settings.pop("student", 0)), make_sets(settings.pop("data", 0))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=what):
        train(student, sets, folder, **settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    replaced = train(student, sets, folder, resume=False, **settings)
    assert torch.equal(flat(load_text_classifier(folder, device="cpu").model), flat(replaced.model))


@pytest.fixture(scope="module")
def finished(make_classifier, make_sets, tmp_path_factory):
    """The folder of a run of one epoch."""
    return train(make_classifier(), make_sets(), tmp_path_factory.mktemp("finished")).output_dir


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "history.csv"])
@pytest.mark.parametrize(
    ("damage", "what"), [(flip_a_byte, "is not as it was written"), (Path.unlink, "is missing")], ids=["flip", "gone"]
)
def test_a_finished_folder_with_a_damaged_file_is_not_read_back(
    make_classifier, make_sets, finished, tmp_path, name, damage, what
):
    folder = shutil.copytree(finished, tmp_path / "finished")
    damage(folder / name)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} {what}; pass resume=False"):
        train(make_classifier(), make_sets(), folder)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff\xfe", b"3f2a", b'{"run": 3}', b'{"files": {}}'])
def test_a_finished_folder_that_cannot_say_whose_it_is_is_not_replaced(
    make_classifier, make_sets, finished, tmp_path, content
):
    folder = shutil.copytree(finished, tmp_path / "finished")
    (folder / "finished-run.key").write_bytes(content)
    with pytest.raises(ValueError, match=r"finished-run\.key in it is damaged or of another version.*resume=False"):
        train(make_classifier(), make_sets(), folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "config.json"])
def test_a_model_from_elsewhere_is_not_replaced(make_classifier, make_sets, tmp_path, name):
    (tmp_path / name).write_bytes(b"somebody's work")
    with pytest.raises(ValueError, match=f"holds {re.escape(name)}, of a model that no finished run"):
        train(make_classifier(), make_sets(), tmp_path)
    assert (tmp_path / name).read_bytes() == b"somebody's work"


@pytest.mark.slow
def test_a_finished_adapter_is_read_back_into_its_base(make_classifier, make_sets, tmp_path):
    from peft import LoraConfig, get_peft_model

    def student():
        model, tokenizer = make_classifier()
        torch.manual_seed(0)
        return TextClassifier(
            get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])), tokenizer
        )

    first = train(student(), make_sets(), tmp_path, learning_rate=1e-2)
    steps = RecordRates()
    with pytest.warns(UserWarning, match="read back"):
        again = train(student(), make_sets(), tmp_path, learning_rate=1e-2, callbacks=[steps])
    assert steps.rates == []
    assert type(again.model) is type(first.model)
    assert torch.equal(flat(again.model), flat(first.model))
    assert not torch.equal(flat(again.model), flat(student().model))


def test_files_of_other_kinds_stay_beside_the_student(make_classifier, make_sets, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "finished")
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").write_text("edited")
    with pytest.warns(UserWarning, match="read back"):
        train(make_classifier(), make_sets(), folder)
    train(make_classifier(), make_sets(), folder, seed=1, resume=False)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_an_interrupted_replacement_leaves_the_old_student_and_goes_on(make_classifier, make_sets, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "finished")
    student, sets = make_classifier(), make_sets()
    with pytest.raises(KeyboardInterrupt):
        train(student, sets, folder, seed=1, resume=False, n_epochs=2, callbacks=[StopAt(4)])
    assert weights_sha256(folder) == weights_sha256(finished)
    steps = RecordRates()
    again = train(student, sets, folder, seed=1, n_epochs=2, callbacks=[steps])
    assert len(steps.rates) == 3
    assert torch.equal(flat(again.model), flat(load_text_classifier(folder, device="cpu").model))
    assert weights_sha256(folder) != weights_sha256(finished)


def test_what_another_run_left_half_written_is_not_read_back(make_classifier, make_sets, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "finished")
    (folder / "finished-run.key").unlink()  # as a kill while the files are moved leaves it
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="of a model that no finished run of this function has left there"):
        train(make_classifier(), make_sets(), folder)
    again = train(make_classifier(), make_sets(), folder, resume=False)
    assert weights_sha256(folder) == weights_sha256(finished)
    assert again.output_dir == folder


@pytest.mark.slow
def test_two_trainings_in_one_folder_are_one_too_many(inputs, tmp_path):
    seen = []

    class SecondTraining(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                arguments = [str(torch.get_num_threads()), str(inputs), str(tmp_path)]
                seen.append(run_child(arguments))

    train_from(inputs, tmp_path, SecondTraining())
    (child,) = seen
    assert child.returncode == 1
    assert f"RuntimeError: another training, process {os.getpid()}, writes into {tmp_path}; wait until" in child.stderr
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_training_inside_another_is_one_too_many(make_classifier, make_sets, tmp_path):
    class SecondTraining(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            train(make_classifier(), make_sets(), tmp_path, resume=False)

    with pytest.raises(RuntimeError, match=rf"another training, process {os.getpid()}, writes into"):
        train(make_classifier(), make_sets(), tmp_path, callbacks=[SecondTraining()])
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


# Bad input


@pytest.mark.parametrize("name", ["n_epochs", "batch_size", "gradient_accumulation_steps"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_counts_that_are_none_are_refused(make_classifier, make_sets, tmp_path, name, value):
    with pytest.raises(ValueError, match=re.escape(f"{name} must be a whole number of at least 1, got {value!r}")):
        train(make_classifier(), make_sets(), tmp_path, **{name: value})
    assert list(tmp_path.iterdir()) == []  # refused before anything is written


@pytest.mark.parametrize("value", [0, -1e-3, float("nan"), float("inf")])
def test_a_learning_rate_that_is_not_positive_is_refused(make_classifier, make_sets, tmp_path, value):
    with pytest.raises(ValueError, match=f"learning_rate must be positive and finite, got {value!r}"):
        train(make_classifier(), make_sets(), tmp_path, learning_rate=value)


@pytest.mark.parametrize("value", [1, 100, -0.1, float("nan")])
def test_a_warm_up_that_is_no_share_is_refused(make_classifier, make_sets, tmp_path, value):
    with pytest.raises(ValueError, match=re.escape(f"warmup_ratio must lie in [0, 1), got {value!r}")):
        train(make_classifier(), make_sets(), tmp_path, warmup_ratio=value)


NAMED = [(0, "train_dataset"), (1, "val_dataset")]


@pytest.mark.parametrize(("part", "name"), NAMED)
def test_an_empty_data_set_is_refused(make_classifier, make_sets, tmp_path, part, name):
    sets = make_sets()
    sets[part].token_ids = []
    with pytest.raises(ValueError, match=f"{name} is empty"):
        train(make_classifier(), sets, tmp_path)


@pytest.mark.parametrize(("part", "name"), NAMED)
def test_missing_teacher_logits_are_refused_where_alpha_needs_them(make_classifier, make_sets, tmp_path, part, name):
    sets = make_sets()
    sets[part].teacher_logits = None
    with pytest.raises(ValueError, match=rf"{name} has no teacher logits and alpha is 0\.5"):
        train(make_classifier(), sets, tmp_path, DistillationConfig(alpha=0.5))


@pytest.mark.parametrize(("part", "name"), NAMED)
def test_a_teacher_with_other_classes_is_refused(make_classifier, make_sets, tmp_path, part, name):
    sets = make_sets()
    sets[part].teacher_logits = torch.randn(len(sets[part]), 7)
    with pytest.raises(ValueError, match=f"{name}: 7 teacher classes, but the student has 5"):
        train(make_classifier(), sets, tmp_path)


@pytest.mark.parametrize(("part", "name"), NAMED)
def test_a_label_outside_the_students_classes_is_refused(make_classifier, make_sets, tmp_path, part, name):
    sets = make_sets(with_logits=False)
    sets[part].labels[4] = 5
    with pytest.raises(ValueError, match=f"{name}: label 5, but the student has 5 classes"):
        train(make_classifier(), sets, tmp_path, DistillationConfig(alpha=0))


@pytest.mark.parametrize(("part", "name"), NAMED)
def test_data_tokenised_with_a_larger_vocabulary_is_refused(
    make_classifier, make_sets, base_tokenizer, help_desk, tmp_path, part, name
):
    sets = list(make_sets())
    n = len(sets[part])
    sets[part] = DistillationDataset(help_desk.train.texts[:n], [0] * n, torch.randn(n, 5), base_tokenizer, 32)
    with pytest.raises(ValueError, match=rf"{name} was tokenised with another tokenizer .*\(400 entries\)"):
        train(make_classifier(), sets, tmp_path)


def test_data_tokenised_with_a_smaller_vocabulary_is_refused(
    make_sets, make_classifier, base_tokenizer, help_desk, tmp_path
):
    # Every index exists in the student's embedding, and nearly every one stands for another word.
    student = TextClassifier(create_transformer(help_desk.label_names, 30522, hidden_size=16), base_tokenizer)
    with pytest.raises(ValueError, match="train_dataset was tokenised with another tokenizer"):
        train(student, make_sets(), tmp_path)


def test_validation_messages_without_labels_are_refused(make_classifier, make_sets, tmp_path):
    sets = make_sets()
    sets[1].labels[20] = -100
    with pytest.raises(ValueError, match="val_dataset has unlabelled messages, such as row 20, beside labelled ones"):
        train(make_classifier(), sets, tmp_path, DistillationConfig(alpha=1))


def test_training_messages_without_any_label_need_alpha_1(make_classifier, make_sets, tmp_path):
    sets = make_sets()
    sets[0].labels = [-100] * 48
    with pytest.raises(ValueError, match=r"alpha is 0\.9, but no training message has a hard label; set alpha=1"):
        train(make_classifier(), sets, tmp_path, DistillationConfig(alpha=0.9))


def test_the_callers_student_is_not_changed(make_classifier, make_sets, tmp_path):
    student = make_classifier(seed=1)
    before = flat(student.model)
    result = train(student, make_sets(), tmp_path / "out")
    assert torch.equal(flat(student.model), before)
    assert not torch.equal(flat(result.model), before)


def test_a_student_in_half_precision_is_refused(make_classifier, make_sets, tmp_path):
    model, tokenizer = make_classifier()
    with pytest.raises(ValueError, match="bfloat16"):
        train(TextClassifier(model.bfloat16(), tokenizer), make_sets(), tmp_path / "out")
