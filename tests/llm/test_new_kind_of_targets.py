"""A kind of targets that this file alone defines goes through every loss, the store and the trainer."""

from dataclasses import dataclass

import pytest
import torch
from transformers import TrainingArguments

from distill_helpers import DistillationConfig
from distill_helpers.llm import LLMDistillationTrainer, precompute_token_targets
from distill_helpers.llm.fused_loss import fused_distillation_loss
from distill_helpers.llm.output_heads import last_hidden_states
from distill_helpers.llm.target_kinds import KINDS
from distill_helpers.llm.token_level import completion_hidden_states
from distill_helpers.llm.token_targets import TokenTargets, target_divergence, target_divergence_and_gradient

V = 31


@dataclass(frozen=True, repr=False)
class RankedTargets(TokenTargets):
    """The teacher's token of one rank, 0 for its likeliest, as a hard label. The divergence is the cross-entropy.

    A hard label is the same at every temperature and in every direction, but the cross-entropy is the forward KL at
    T = 1 alone. So `check` refuses everything else, and `check_vocabulary` tokens that the student does not have.
    """

    token_ids: torch.Tensor

    options = {"rank": 0}  # noqa: RUF012 - a class variable of the base

    @classmethod
    def compute(cls, hidden, head, settings):
        return cls(settings.logits(hidden, head).argsort(dim=1, descending=True)[:, settings.options["rank"]])

    def check(self, n_tokens, *, divergence, temperature):
        super().check(n_tokens, divergence=divergence, temperature=temperature)
        if (divergence, temperature) != ("forward_kl", 1.0):
            raise ValueError(f"ranked targets need the forward KL at temperature 1, got {divergence}, {temperature:g}")

    def check_vocabulary(self, vocab_size):
        if int(self.token_ids.max()) >= vocab_size:
            raise ValueError(f"token {int(self.token_ids.max())} is not among the student's {vocab_size}")

    def divergence(self, student_logits, **settings):
        return torch.nn.functional.cross_entropy(student_logits.float(), self.token_ids, reduction="none")

    def divergence_and_gradient(self, student_logits, *, compiled=False, **settings):
        gradient = student_logits.float().softmax(dim=1)
        gradient[torch.arange(len(self)), self.token_ids] -= 1
        return self.divergence(student_logits), gradient


@pytest.fixture
def named(monkeypatch):
    monkeypatch.setitem(KINDS, "ranked", RankedTargets)


@pytest.fixture
def case():
    """Student logits, targets, and the divergence with its gradient by autograd."""
    generator = torch.Generator().manual_seed(0)
    student, targets = 3 * torch.randn(9, V, generator=generator), RankedTargets(torch.arange(9) * 3)
    exact = student.double().requires_grad_()
    value = torch.nn.functional.cross_entropy(exact, targets.token_ids, reduction="none")
    value.sum().backward()
    return student, targets, value.detach().float(), exact.grad.float()


def test_its_divergence(case):
    student, targets, expected, gradient = case
    torch.testing.assert_close(target_divergence(student, targets), expected)
    for one, other in zip(target_divergence_and_gradient(student, targets), (expected, gradient), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match="9 rows of targets, but 8 tokens count"):
        target_divergence(student[:8], targets)


@pytest.mark.parametrize("settings", [{"temperature": 2.0}, {"divergence": "reverse_kl"}], ids=str)
def test_what_it_cannot_serve_is_refused(case, settings):
    student, targets, *_ = case
    with pytest.raises(ValueError, match="need the forward KL at temperature 1"):
        target_divergence(student, targets, **settings)
    with pytest.raises(ValueError, match="need the forward KL at temperature 1"):
        fused_distillation_loss(torch.eye(9), torch.nn.Linear(9, V), targets, **settings)


def test_a_token_outside_the_vocabulary_is_refused(case):
    student, targets, *_ = case
    with pytest.raises(ValueError, match="token 24 is not among the student's 20"):
        target_divergence(student[:, :20], targets)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_fused_loss_and_its_gradient(case, wrapped, compiled):
    student, targets, expected, gradient = case
    head = torch.nn.Linear(9, V, bias=False)
    with torch.no_grad():
        head.weight.copy_(student.t())
    loss = fused_distillation_loss(
        torch.eye(9), torch.nn.Sequential(head) if wrapped else head, targets, chunk_size=4, compiled=compiled
    )
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected.mean())
    torch.testing.assert_close(head.weight.grad.t(), gradient / 9)
    with pytest.raises(ValueError, match="RankedTargets are complete without the teacher's head"):
        fused_distillation_loss(torch.eye(9), head, targets, head)


def test_it_is_kept_on_disk_and_trained_on(named, make_language_model, completions, tmp_path):
    teacher = make_language_model(1)
    stores = [
        precompute_token_targets(teacher, completions, "ranked", cache_dir=tmp_path, progress=False, **options)
        for options in ({}, {"rank": 2})
    ]
    batch = {"input_ids": torch.tensor([completions.token_ids[4]])}
    labels = torch.tensor([completions[4]["labels"]])
    with torch.no_grad():
        logits = completion_hidden_states(teacher.model(**batch).logits, labels)
        assert len(logits) == len(completion_hidden_states(last_hidden_states(teacher.model, **batch), labels))
    ranks = logits.argsort(dim=1, descending=True)
    for store, rank in zip(stores, (0, 2), strict=True):
        assert isinstance(store[4], RankedTargets)
        assert torch.equal(store[4].token_ids, ranks[:, rank])
    with pytest.raises(TypeError, match="kind 'ranked' have no option 'k'; their options: rank"):
        precompute_token_targets(teacher, completions, "ranked", cache_dir=tmp_path, k=5)
    trainer = LLMDistillationTrainer(
        make_language_model(0).model,
        DistillationConfig(temperature=1.0, alpha=1.0),
        TrainingArguments(
            str(tmp_path),
            max_steps=20,
            learning_rate=3e-3,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
        ),
        train_dataset=completions.with_targets(stores[0]),
        eval_dataset=completions.with_targets(stores[0]),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.9 * before
