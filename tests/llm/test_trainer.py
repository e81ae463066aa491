"""The trainer: what it learns from, that it goes on where a kill left it, what it refuses."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from training_runs import arguments
from transformers import TrainerCallback

from distill_helpers import DistillationConfig
from distill_helpers.llm import (
    CompletionCollator,
    CompletionDataset,
    LLMDistillationTrainer,
    compute_token_level_distillation_loss,
    on_policy_batch,
    precompute_token_targets,
)
from distill_helpers.losses.causal_alignment import causal_shift
from distill_helpers.models.text_models import LanguageModel

SOFT = DistillationConfig(temperature=1.0, alpha=1.0)


def trainer_of(student, data, folder, config=SOFT, *, teacher=None, callbacks=(), extra=None, **changes):
    return LLMDistillationTrainer(
        student,
        config,
        arguments(folder, **changes),
        train_dataset=data,
        eval_dataset=data,
        teacher=teacher,
        callbacks=list(callbacks),
        **(extra or {}),
    )


def trained(make_language_model, data, folder, *args, **kwargs):
    student = make_language_model(0).model
    trainer_of(student, data, folder, *args, **kwargs).train()
    return {name: tensor.clone() for name, tensor in student.state_dict().items()}


def assert_same(one, other, **tolerance):
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], **tolerance)


def assert_differ(one, other):
    assert any(not torch.allclose(tensor, other[name], atol=1e-5) for name, tensor in one.items())


@pytest.mark.slow
def test_training_brings_the_student_to_its_teacher(make_language_model, completions, tmp_path):
    student, teacher = make_language_model(0), make_language_model(1, hidden_size=48)
    trainer = trainer_of(student.model, completions, tmp_path, teacher=teacher, max_steps=40)
    before = trainer.evaluate()["eval_loss"]
    weights = copy.deepcopy(teacher.model.state_dict())
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.7 * before
    assert_same(teacher.model.state_dict(), weights, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_a_step_is_that_of_the_loss_on_logits(make_language_model, completions, tmp_path, alpha):
    """One step of plain gradient descent, against autograd on all logits of the whole accumulated batch."""
    teacher = make_language_model(1)
    config = DistillationConfig(temperature=2.0, alpha=alpha, divergence="generalized_jsd")
    student = make_language_model(0).model
    trainer = trainer_of(
        student,
        completions,
        tmp_path,
        config,
        teacher=teacher,
        max_steps=1,
        gradient_accumulation_steps=4,
        optim="sgd",
        learning_rate=0.1,
        weight_decay=0.0,
        max_grad_norm=1e9,
    )
    trainer.train()
    reference = make_language_model(0).model
    batch = trainer.data_collator([completions[row] for row in range(12)])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        teacher_logits = teacher.model(**inputs).logits
    loss = compute_token_level_distillation_loss(
        reference(**inputs).logits,
        teacher_logits,
        batch["labels"],
        temperature=2.0,
        alpha=alpha,
        divergence="generalized_jsd",
    )["total_loss"]
    loss.backward()
    for (name, parameter), own in zip(reference.named_parameters(), student.parameters(), strict=True):
        assert parameter.grad is not None, name
        torch.testing.assert_close(own, parameter - 0.1 * parameter.grad, rtol=1e-4, atol=2e-6)
    assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(float(loss.detach()), rel=1e-4)


@pytest.mark.parametrize("kind", ["hidden", "dense"])
def test_targets_from_the_disk_give_the_weights_of_a_live_teacher(make_language_model, completions, tmp_path, kind):
    teacher = make_language_model(1)
    live = trained(make_language_model, completions, tmp_path / "live", teacher=teacher)
    store = precompute_token_targets(
        teacher, completions, kind, cache_dir=tmp_path, storage_dtype=torch.float32, progress=False
    )
    cached = trained(
        make_language_model,
        completions.with_targets(store),
        tmp_path / "cached",
        teacher=teacher if kind == "hidden" else None,
    )
    assert_same(cached, live, rtol=1e-3, atol=1e-5)


class StopAfter(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("extra", [{}, {"on_policy_fraction": 0.5, "max_new_tokens": 6}])
@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    make_language_model, completions, tmp_path, extra
):
    teacher = make_language_model(1)
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 5, "extra": extra}
    whole = trained(make_language_model, completions, tmp_path / "whole", teacher=teacher, **saving)
    with pytest.raises(KeyboardInterrupt):
        trained(
            make_language_model,
            completions,
            tmp_path / "stopped",
            teacher=teacher,
            callbacks=[StopAfter(3)],
            **saving,
        )
    student = make_language_model(0).model
    trainer = trainer_of(student, completions, tmp_path / "stopped", teacher=teacher, **saving)
    trainer.train(resume_from_checkpoint=True)
    assert_same(student.state_dict(), whole, rtol=0, atol=0)


@pytest.mark.slow
def test_on_policy_trains_on_what_the_student_writes(make_language_model, completions, tmp_path):
    teacher = make_language_model(1)
    seen = []

    class Watched(LLMDistillationTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            seen.append(inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)

    def run(fraction):
        seen.clear()
        student = make_language_model(0).model
        Watched(
            student,
            SOFT,
            arguments(tmp_path, max_steps=8),
            train_dataset=completions,
            teacher=teacher,
            on_policy_fraction=fraction,
            max_new_tokens=5,
        ).train()
        written = [int((batch["labels"] != -100).sum(dim=1).max()) <= 5 for batch in seen]
        return student.state_dict(), sum(written)

    never, none = run(0.0)
    always, all_of_them = run(1.0)
    _, some = run(0.5)
    assert none == 0
    assert all_of_them == 8
    assert 1 <= some <= 7
    assert_differ(always, never)


@pytest.mark.slow
def test_hard_labels_need_no_teacher(make_language_model, completions, tmp_path):
    student = make_language_model(0).model
    trainer = trainer_of(student, completions, tmp_path, DistillationConfig(alpha=0.0), max_steps=30, logging_steps=10)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.9 * before
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["task_loss"] for row in logged] == pytest.approx([row["loss"] for row in logged])


@pytest.mark.slow
def test_a_student_under_lora_trains_its_adapter_alone(make_language_model, completions, tmp_path):
    base = make_language_model(0).model
    student = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=True))
    frozen = {n: p.clone() for n, p in student.named_parameters() if not p.requires_grad}
    adapter = {n: p.detach().clone() for n, p in student.named_parameters() if p.requires_grad}
    trainer = trainer_of(student, completions, tmp_path, teacher=make_language_model(1), max_steps=20)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    now = dict(student.named_parameters())
    assert_same(frozen, now, rtol=0, atol=0)
    assert_differ(adapter, now)
    assert "forward" not in vars(student)


def test_mixed_precision_stays_near_fp32(make_language_model, completions, tmp_path):
    teacher = make_language_model(1)
    full = trainer_of(make_language_model(0).model, completions, tmp_path, teacher=teacher)
    mixed = trainer_of(make_language_model(0).model, completions, tmp_path, teacher=teacher, bf16=True)
    losses = [trainer.evaluate()["eval_loss"] for trainer in (full, mixed)]
    mixed.train()
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert losses[1] != losses[0]


def test_padded_vocabularies_are_cut_to_the_tokens_they_share(make_language_model, completions, tmp_path):
    student, teacher = make_language_model(0).model, make_language_model(1, rows=8)
    n_tokens = len(completions.tokenizer)
    trainer = trainer_of(student, completions, tmp_path, teacher=teacher, extra={"vocab_size": n_tokens})
    batch = trainer.data_collator([completions[row] for row in range(12)])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = compute_token_level_distillation_loss(
            student(**inputs).logits, teacher.model(**inputs).logits[..., :n_tokens], batch["labels"]
        )["total_loss"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="pass vocab_size"):
        trainer_of(student, completions, tmp_path, teacher=teacher).evaluate()


def test_what_cannot_be_trained_is_refused_before_it_begins(
    make_language_model, completions, small_tokenizer, tmp_path
):
    student, teacher = make_language_model(0).model, make_language_model(1)
    store = precompute_token_targets(teacher, completions, "hidden", cache_dir=tmp_path, progress=False)
    stranger = LanguageModel(
        teacher.model, type(small_tokenizer)(vocab={"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4})
    )
    features = DistillationConfig(alpha=1.0, cosine_loss_weight=1.0)
    for data, config, own_teacher, extra, message in (
        (completions, SOFT, None, {}, "pass teacher="),
        (completions.with_targets(store), SOFT, None, {}, "need the teacher's head"),
        (completions, SOFT, stranger, {}, "different vocabularies"),
        (completions, features, teacher, {}, "feature terms"),
        (completions, SOFT, teacher, {"on_policy_fraction": 1.5}, r"\[0, 1\]"),
        (completions, DistillationConfig(alpha=0.5), teacher, {"on_policy_fraction": 0.5}, "alpha=1"),
        (completions, SOFT, None, {"on_policy_fraction": 0.5}, "live teacher"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer_of(student, data, tmp_path, config, teacher=own_teacher, extra=extra)
    with pytest.raises(ValueError, match="different vocabularies"):
        precompute_token_targets(stranger, completions, cache_dir=tmp_path)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_nan_is_an_error_that_names_whose_it_is(make_language_model, completions, tmp_path, who):
    models = {"student": make_language_model(0), "teacher": make_language_model(1)}
    with torch.no_grad():
        models[who].model.base_model.norm.weight[0] = float("nan")
    trainer = trainer_of(models["student"].model, completions, tmp_path, teacher=models["teacher"])
    with pytest.raises(ValueError, match=f"{who}'s hidden states are not finite"):
        trainer.train()


def test_a_batch_without_a_token_to_learn_is_an_error(make_language_model, completions, tmp_path):
    trainer = trainer_of(make_language_model(0).model, completions, tmp_path, teacher=make_language_model(1))
    collate = trainer.data_collator

    def without_labels(items):
        batch = collate(items)
        batch["labels"].fill_(-100)
        return batch

    trainer.data_collator = without_labels
    with pytest.raises(ValueError, match="no token to learn"):
        trainer.train()


def test_the_shift_is_made_once(make_language_model, completions, tmp_path):
    """A teacher equal to the student leaves nothing to learn, at every position and at no other."""
    teacher = make_language_model(0)
    trainer = trainer_of(make_language_model(0).model, completions, tmp_path, teacher=teacher)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(0.0, abs=1e-6)
    assert causal_shift(targets=torch.zeros(1, 3)).shape == (1, 2)


def test_prompts_are_needed_to_go_on_from(make_language_model, help_desk, language_tokenizer, tmp_path):
    data = CompletionDataset.from_texts(help_desk.train.texts[:6], language_tokenizer, max_length=20)
    student, teacher = make_language_model(0), make_language_model(1)
    with pytest.raises(ValueError, match="row 0 of train_dataset has no prompt"):
        trainer_of(student.model, data, tmp_path, teacher=teacher, extra={"on_policy_fraction": 1.0})
    batch = CompletionCollator(language_tokenizer)([data[0], data[1]])
    batch["labels"][1, batch["attention_mask"][1].int().argmax()] = 7
    with pytest.raises(ValueError, match="sequence 1 of the batch has no prompt"):
        on_policy_batch(student, batch)


def test_each_micro_batch_has_a_coin_and_a_seed_of_its_own(make_language_model, completions, tmp_path):
    trainer = trainer_of(
        make_language_model(0).model,
        completions,
        tmp_path,
        teacher=make_language_model(1),
        extra={"on_policy_fraction": 0.5, "max_new_tokens": 6, "on_policy_temperature": 4.0},
    )
    batch = trainer.data_collator([completions[row] for row in (0, 1, 2)])
    prepared = trainer._prepared([batch] * 12)
    thrown = [other is not batch for other in prepared]
    assert 1 <= sum(thrown) <= 11  # one coin for all of them would give 0 or 12
    written = {str(other["input_ids"].tolist()) for other in prepared if other is not batch}
    assert len(written) == sum(thrown) > 1
    trainer.state.global_step = 1
    assert [other is not batch for other in trainer._prepared([batch] * 12)] != thrown


def test_the_mode_in_which_a_teacher_comes_does_not_matter(make_language_model, completions, tmp_path):
    losses = []
    for training in (False, True):
        teacher = make_language_model(1, dropout=0.5)
        teacher.model.train(training)
        trainer = trainer_of(make_language_model(0).model, completions, tmp_path, teacher=teacher)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == losses[1]


def test_the_evaluation_is_a_mean_over_tokens_each_time(make_language_model, completions, tmp_path):
    student, teacher = make_language_model(0), make_language_model(1)
    rows = [0, 3, 1]  # a long, a short and a long one
    data = CompletionDataset(
        [completions.token_ids[row] for row in rows],
        [completions.prompt_lengths[row] for row in rows],
        completions.tokenizer,
    )
    losses = [
        trainer.evaluate()["eval_loss"]
        for n in (1, 2, 3)
        for trainer in [trainer_of(student.model, data, tmp_path, teacher=teacher, per_device_eval_batch_size=n)]
        for _ in range(2)
    ]
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-5)
    predicted = trainer_of(student.model, data, tmp_path, teacher=teacher).predict(data).metrics["test_loss"]
    assert predicted == pytest.approx(losses[0], rel=1e-5)
