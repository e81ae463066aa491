"""The loss with and without logits; the article's call."""

import pytest
import torch
from exact_divergences import divergence_in_fp64

from distill_helpers import DistillationConfig
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm import CompletionCollator, compute_token_level_distillation_loss
from distill_helpers.llm.dense_targets import HiddenTargets
from distill_helpers.llm.output_heads import last_hidden_states, output_head
from distill_helpers.llm.token_level import completion_hidden_states, completion_labels, token_level_terms
from distill_helpers.losses.distillation_loss import DistillationLoss
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.models.architectures import ModelShape


@pytest.fixture(scope="module")
def batch(completions, language_tokenizer):
    return CompletionCollator(language_tokenizer)([completions[row] for row in range(6)])


def logits_of(model, batch):
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


def test_each_completion_token_counts_once_and_is_predicted_by_the_one_before(batch, make_language_model):
    student, teacher = make_language_model(0).model, make_language_model(1).model
    own, others = logits_of(student, batch).double(), logits_of(teacher, batch).double()
    values, surprises = [], []
    for row in range(len(own)):
        for t in range(1, own.shape[1]):
            if batch["labels"][row, t] != IGNORE_INDEX:
                values.append(divergence_in_fp64(own[row, t - 1], others[row, t - 1], "forward_kl", 2.0))
                surprises.append(-own[row, t - 1].log_softmax(-1)[batch["input_ids"][row, t]])
    terms = compute_token_level_distillation_loss(
        own.float(), others.float(), batch["labels"], temperature=2.0, alpha=0.7
    )
    soft, task = torch.stack(values).mean(), torch.stack(surprises).mean()
    torch.testing.assert_close(terms["soft_target_loss"].double(), soft, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(terms["task_loss"].double(), task, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(terms["total_loss"].double(), 0.7 * soft + 0.3 * task, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "generalized_jsd"])
def test_without_logits_the_loss_and_every_gradient_are_the_same(batch, make_language_model, kind, divergence):
    student, teacher = make_language_model(0, kind=kind).model, make_language_model(1, kind=kind, hidden_size=48).model
    config = DistillationConfig(temperature=1.5, alpha=0.6, divergence=divergence, causal=True)
    with torch.no_grad():
        teacher_logits = logits_of(teacher, batch)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        targets = HiddenTargets(completion_hidden_states(last_hidden_states(teacher, **inputs), batch["labels"]))
    expected = compute_token_level_distillation_loss(
        logits_of(student, batch), teacher_logits, batch["labels"], temperature=1.5, alpha=0.6, divergence=divergence
    )
    expected["total_loss"].backward()
    gradients = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    student.zero_grad()
    terms = token_level_terms(
        completion_hidden_states(last_hidden_states(student, **inputs), batch["labels"]),
        output_head(student),
        completion_labels(batch["labels"]),
        config,
        targets=targets,
        teacher_head=output_head(teacher),
    )
    terms["total_loss"].backward()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5)


def test_soft_targets_need_a_teacher(batch, make_language_model):
    student = make_language_model(0).model
    with pytest.raises(ValueError, match="teacher_logits are needed"):
        compute_token_level_distillation_loss(logits_of(student, batch), None, batch["labels"], alpha=0.5)
    with pytest.raises(ValueError, match="teacher or teacher_targets"):
        token_level_terms(
            torch.zeros(2, 32), output_head(student), torch.tensor([1, 2]), DistillationConfig(), targets=None
        )


def test_feature_terms_of_sequences_divide_by_the_items_of_the_whole_step():
    """Two micro-batches of one step, with the count of both, add up to the mean over all positions."""
    config = DistillationConfig(alpha=1.0, causal=True, cosine_loss_weight=1.0)
    shape = ModelShape(2, 8, n_heads=2)
    loss = DistillationLoss(config, FeatureTerms(config, shape, shape))
    generator = torch.Generator().manual_seed(0)
    names = loss.feature_terms.student_names
    own, others = ({name: torch.randn(3, 5, 8, generator=generator) for name in names} for _ in range(2))
    logits = torch.randn(3, 5, 11, generator=generator)
    labels = torch.tensor([[-100, -100, 4, 5, 6], [-100, 7, 8, 9, 1], [-100, -100, -100, -100, 2]])
    mask = torch.ones(3, 5, dtype=torch.long)

    def terms(rows, num_items=None):
        return loss(
            logits[rows],
            logits[rows],
            labels[rows],
            num_items=num_items,
            student_features={name: value[rows] for name, value in own.items()},
            teacher_features={name: value[rows] for name, value in others.items()},
            attention_mask=mask[rows],
        )["total_loss"]

    parts = terms(slice(0, 1), 8) + terms(slice(1, 3), 8)
    torch.testing.assert_close(parts, terms(slice(0, 3)))
    torch.testing.assert_close(terms(slice(0, 3), 16), parts / 2)
