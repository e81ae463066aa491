"""The estimate of the reverse KL from the tokens that the student wrote, against its exact value and gradient."""

import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import TrainingArguments

from distill_helpers.llm.dense_targets import DenseTargets, HiddenTargets
from distill_helpers.llm.fused_loss import fused_distillation_loss
from distill_helpers.llm.live_targets import LIVE_KINDS, LiveTargets, check_live_targets
from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.target_kinds import TopKTargets
from distill_helpers.llm.token_target_store import precompute_token_targets
from distill_helpers.llm.token_targets import target_divergence, target_divergence_and_gradient
from distill_helpers.llm.trainer import LLMDistillationTrainer
from distill_helpers.llm.written_targets import WrittenTargets
from distill_helpers.losses.distillation_config import DistillationConfig

V = 13


def logits_of(n_tokens=4, seed=0, vocabulary=V):
    return 2 * torch.randn(2, n_tokens, vocabulary, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_the_mean_over_all_tokens_that_the_student_may_draw_is_the_reverse_kl_and_its_gradient(temperature):
    """No sampling: each token of the vocabulary, weighted with the student's own probability of it."""
    settings = {"divergence": "reverse_kl", "temperature": temperature}
    for student, teacher in zip(*logits_of(), strict=True):
        every = torch.arange(V)
        targets = WrittenTargets.of(teacher.expand(V, V), every, temperature)
        value, gradient = target_divergence_and_gradient(student.expand(V, V), targets, **settings)
        q = (student / temperature).softmax(dim=-1)
        exact = student[None].clone().requires_grad_()
        expected = target_divergence(exact, teacher[None], **settings)
        expected.sum().backward()
        torch.testing.assert_close((q * value).sum(), expected[0].detach().double(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close((q[:, None] * gradient).sum(dim=0), exact.grad[0], rtol=1e-4, atol=1e-5)


def test_autograd_the_fused_loss_and_the_gradient_by_hand_agree():
    student, teacher = (part.float() for part in logits_of(n_tokens=6))
    targets = WrittenTargets.of(teacher, torch.tensor([0, 12, 3, 3, 7, 1]), 2.0)
    settings = {"divergence": "reverse_kl", "temperature": 2.0}
    by_autograd = student.clone().requires_grad_()
    value = target_divergence(by_autograd, targets, **settings)
    value.sum().backward()
    again, gradient = target_divergence_and_gradient(student, targets, **settings)
    torch.testing.assert_close(again, value.detach())
    torch.testing.assert_close(gradient, by_autograd.grad)
    hidden = torch.eye(6).requires_grad_()
    head = OutputHead(student.T.clone())  # hidden state i is the unit vector i, so its logits are row i
    loss = fused_distillation_loss(hidden, head, targets, chunk_size=4, **settings)
    torch.testing.assert_close(loss.detach(), value.detach().mean())
    loss.backward()
    torch.testing.assert_close(hidden.grad, gradient @ student.T / 6)


def test_a_token_that_both_find_equally_likely_moves_nothing():
    student, _ = logits_of()
    targets = WrittenTargets.of(student, torch.tensor([1, 2, 3, 4]))
    value, gradient = target_divergence_and_gradient(student, targets, divergence="reverse_kl")
    torch.testing.assert_close(value, torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient, torch.zeros(4, V), atol=1e-6, rtol=0)


def test_it_keeps_one_token_and_one_number_for_each_position():
    targets = WrittenTargets.of(logits_of()[1], torch.tensor([1, 2, 3, 4], dtype=torch.int32))
    assert repr(targets) == "WrittenTargets(4 tokens, 8 bytes each, temperature=1)"
    assert repr(targets[1:3]) == "WrittenTargets(2 tokens, 8 bytes each, temperature=1)"


@pytest.mark.parametrize(
    ("targets", "settings", "message"),
    [
        (lambda t: WrittenTargets.of(t, torch.arange(4)), {"divergence": "forward_kl"}, "reverse KL alone"),
        (lambda t: WrittenTargets.of(t, torch.arange(4), 2.0), {}, "made at temperature 2, but the loss has 1"),
        (lambda t: WrittenTargets.of(t, torch.arange(3)), {}, "4 positions, but 3 tokens"),
        (lambda t: WrittenTargets.of(t, torch.arange(4), 0.0), {}, "temperature"),
        (lambda t: WrittenTargets(torch.arange(4)[:, None], torch.zeros(4, 1)), {}, r"must be \(tokens,\)"),
        (lambda t: WrittenTargets(torch.tensor([0, 1, 2, V]), torch.zeros(4)), {}, f"token {V} is not among"),
    ],
)
def test_what_would_be_no_estimate_is_refused(targets, settings, message):
    student, teacher = logits_of()
    with pytest.raises(ValueError, match=message):
        target_divergence(student, targets(teacher), **{"divergence": "reverse_kl", **settings})


def test_they_cannot_be_made_before_the_student_writes(make_language_model, completions, tmp_path):
    with pytest.raises(ValueError, match="unknown kind 'written'"):
        precompute_token_targets(make_language_model(0), completions, "written", cache_dir=tmp_path)


@pytest.mark.parametrize("kind", LIVE_KINDS)
def test_a_live_teacher_says_what_the_kind_keeps(kind):
    hidden = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    head = torch.nn.Linear(8, V, bias=False)
    options = {"top_k": {"k": 3}, "sampled": {"draws": 2}}.get(kind, {})
    written = torch.tensor([0, 5, 2, 12, 1])
    targets = LiveTargets(kind, options, 1.0).of(hidden, head, written, seed=0)
    logits = head(hidden).detach()
    if kind == "hidden":
        assert isinstance(targets, HiddenTargets)
        assert targets.hidden is hidden
    elif kind == "dense":
        assert isinstance(targets, DenseTargets)
        torch.testing.assert_close(log_softmax(targets.logits, dim=-1), log_softmax(logits, dim=-1))
    elif kind == "top_k":
        assert isinstance(targets, TopKTargets)
        assert torch.equal(targets.token_ids.long().sort().values, logits.topk(3).indices.sort().values)
    elif kind == "written":
        expected = log_softmax(logits, dim=-1)[range(5), written]
        torch.testing.assert_close(targets.log_probs, expected)
    else:
        assert targets.token_ids.shape == (5, 2)


REVERSE = DistillationConfig(temperature=1.0, alpha=1.0, divergence="reverse_kl")


@pytest.mark.parametrize(
    ("kind", "options", "config", "fraction", "temperature", "error", "message"),
    [
        ("top_k", {}, DistillationConfig(alpha=0.0), 0.0, 1.0, ValueError, "but alpha is 0; leave target_kind out"),
        ("words", {}, REVERSE, 1.0, 1.0, ValueError, "unknown kind 'words'; choose one of .*'written'"),
        ("top_k", {"n": 3}, REVERSE, 1.0, 1.0, TypeError, "no option 'n'; their options: k"),
        ("written", {}, DistillationConfig(alpha=1.0), 1.0, 1.0, ValueError, "reverse KL alone"),
        ("written", {}, REVERSE, 0.5, 1.0, ValueError, "on_policy_fraction=1, got 0.5"),
        ("written", {}, REVERSE, 1.0, 0.8, ValueError, "set on_policy_temperature=1"),
        ("sampled", {}, REVERSE, 1.0, 1.0, ValueError, "forward KL alone"),
    ],
)
def test_a_training_that_the_kind_does_not_fit_is_refused(kind, options, config, fraction, temperature, error, message):
    def checked():
        targets = LiveTargets(kind, options, config.temperature)
        check_live_targets(targets, config, fraction, temperature, stored=False)

    with pytest.raises(error, match=message):
        checked()


def test_a_kind_that_stored_targets_would_replace_is_refused(make_language_model, completions, tmp_path):
    student, teacher = make_language_model(0), make_language_model(1)
    store = precompute_token_targets(teacher, completions, "hidden", cache_dir=tmp_path / "targets")
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")

    def trainer(**options):
        data = completions.with_targets(store)
        return LLMDistillationTrainer(student, REVERSE, arguments, train_dataset=data, teacher=teacher, **options)

    with pytest.raises(ValueError, match="the data set carries targets from the disk; leave target_kind out"):
        trainer(target_kind="top_k")
    assert trainer(target_kind="top_k", on_policy_fraction=0.5).live_targets.chosen[0] is TopKTargets
    assert trainer().live_targets.chosen[0] is HiddenTargets


class LikeliestTargets(TopKTargets):
    """A kind that nobody has given a name."""


def test_a_kind_may_be_a_class_of_ones_own(make_language_model, completions, tmp_path):
    student, teacher = make_language_model(0), make_language_model(1)
    options = {"target_kind": LikeliestTargets, "target_options": {"k": 2}}
    trainer = trainer_for(student.model, teacher, completions, tmp_path, **options)
    assert trainer.live_targets.chosen == (LikeliestTargets, {"k": 2})
    assert loss_of(trainer) > 0
    with pytest.raises(TypeError, match="'LikeliestTargets' have no option 'n'; their options: k"):
        LiveTargets(LikeliestTargets, {"n": 2}, 1.0)


class Watched(LLMDistillationTrainer):
    """Keeps the batches that it learned from."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        if model.training:
            self.seen = [*getattr(self, "seen", []), inputs]
        return super().compute_loss(model, inputs, *args, **kwargs)


def trainer_for(model, teacher, data, folder, **options):
    """A trainer of one step of plain gradient descent on what the student writes."""
    arguments = TrainingArguments(
        str(folder),
        max_steps=1,
        per_device_train_batch_size=4,
        learning_rate=0.5,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    return Watched(
        model,
        REVERSE,
        arguments,
        train_dataset=data,
        eval_dataset=data,
        teacher=teacher,
        on_policy_fraction=1.0,
        max_new_tokens=5,
        **options,
    )


def loss_of(trainer):
    trainer.train()
    return next(line["loss"] for line in trainer.state.log_history if "loss" in line)


def test_the_trainer_learns_from_the_tokens_that_its_student_wrote(make_language_model, completions, tmp_path):
    """The loss is the mean of log q − log p over the written tokens, worked out from the two models' own logits."""
    student, before, teacher = (make_language_model(seed) for seed in (0, 0, 1))
    trainer = trainer_for(student.model, teacher, completions, tmp_path, target_kind="written")
    loss = loss_of(trainer)
    (batch,) = trainer.seen
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels = batch["labels"][:, 1:]
    with torch.no_grad():
        log_q, log_p = (
            log_softmax(model(**inputs).logits[:, :-1], dim=-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
            for model in (before.model, teacher.model)
        )
    assert loss == pytest.approx(float((log_q - log_p)[labels != -100].mean()), abs=1e-4)
    # An evaluation reads texts that the student did not write; it compares whole distributions.
    whole = trainer_for(student.model, teacher, completions, tmp_path)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(whole.evaluate()["eval_loss"], abs=1e-6)


def test_less_of_the_teacher_makes_another_step(make_language_model, completions, tmp_path):
    losses, weights = {}, {}
    for kind, options in (("hidden", {}), ("dense", {}), ("top_k", {"k": 2}), ("written", {})):
        student, teacher = make_language_model(0), make_language_model(1)
        trainer = trainer_for(student.model, teacher, completions, tmp_path, target_kind=kind, target_options=options)
        losses[kind], weights[kind] = loss_of(trainer), student.model.state_dict()
    torch.testing.assert_close(weights["dense"], weights["hidden"], rtol=1e-4, atol=1e-5)
    assert losses["top_k"] < losses["hidden"]  # the bucket hides differences
    for kind in ("top_k", "written"):
        whole = weights["hidden"]
        assert any(not torch.allclose(weights[kind][name], whole[name], atol=1e-5) for name in whole)
