"""Breaks the package on purpose, one fault at a time, and shows which tests notice.

    python tests/support/breakage.py

Each fault is planted in a copy of the package; the tests of the module that it is in run against the copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """`old` stands once in `file`, below `distill_helpers`; `tests` are where it has to be noticed."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "T² dropped",
        "losses/soft_targets.py",
        "return temperature**2",
        "return 1.0",
        ("losses/test_divergences.py", "losses/test_distillation_loss.py"),
    ),
    Fault(
        "T instead of T²",
        "losses/soft_targets.py",
        "return temperature**2",
        "return temperature",
        ("losses/test_divergences.py", "losses/test_distillation_loss.py"),
    ),
    Fault(
        "temperature on the teacher alone",
        "losses/soft_targets.py",
        "torch.log_softmax(student_logits.float() / temperature, dim=-1)",
        "torch.log_softmax(student_logits.float(), dim=-1)",
        ("losses/test_divergences.py", "losses/test_distillation_loss.py"),
    ),
    Fault(
        "direction of the KL swapped",
        "losses/divergences.py",
        "return _kl(log_p_teacher, log_p_student)",
        "return _kl(log_p_student, log_p_teacher)",
        ("losses/test_divergences.py", "losses/test_distillation_loss.py"),
    ),
    Fault(
        "mask forgotten",
        "losses/soft_targets.py",
        "student_logits, teacher_logits = student_logits[mask], teacher_logits[mask]",
        "pass",
        ("losses/test_divergences.py", "losses/test_distillation_loss.py", "test_defects.py"),
    ),
    Fault(
        "mean over classes",
        "losses/divergences.py",
        "return (log_p.exp() * log_ratio).sum(dim=-1)",
        "return (log_p.exp() * log_ratio).mean(dim=-1)",
        ("losses/test_divergences.py", "losses/test_distillation_loss.py"),
    ),
    Fault(
        "computed in the model's dtype",
        "losses/soft_targets.py",
        "torch.log_softmax(student_logits.float() / temperature, dim=-1)",
        "torch.log_softmax(student_logits / temperature, dim=-1).float()",
        ("losses/test_divergences.py", "test_defects.py"),
    ),
    Fault(
        "alpha and 1 − alpha exchanged",
        "losses/distillation_loss.py",
        "total = total + soft_weight * soft",
        "total = total + task_weight * soft",
        ("losses/test_distillation_loss.py",),
    ),
    Fault(
        "causal shift the wrong way",
        "losses/causal_alignment.py",
        "return logits[:, :-1]",
        "return logits[:, 1:]",
        ("losses/test_distillation_loss.py", "test_defects.py"),
    ),
    Fault(
        "test messages in training",
        "data/corpora.py",
        "for text in train.texts for w in cut_windows",
        'for text in train.texts + queue_messages("test").texts for w in cut_windows',
        ("data/test_corpora.py",),
    ),
    Fault(
        "validation messages stay in training",
        "data/labelled_texts.py",
        "return data.subset(kept), data.subset(held_out)",
        "return data, data.subset(held_out)",
        ("data/test_labelled_texts.py", "data/test_corpora.py"),
    ),
    Fault(
        "one layer too far",
        "models/architectures.py",
        "if index not in kept:",
        "if index not in [i - 1 for i in kept]:",
        ("models/test_architectures.py", "students/test_creation.py"),
    ),
    Fault(
        "labels off by one",
        "training/dataset.py",
        "[int(label) for label in labels]",
        "[max(int(label) - 1, -100) for label in labels]",
        ("training/test_dataset.py", "training/test_train_student.py"),
    ),
    Fault(
        "teacher logits in another order",
        "models/text_models.py",
        "logits[torch.tensor(by_length)] = torch.cat(rows)",
        "logits[:] = torch.cat(rows)",
        ("models/test_text_models.py",),
    ),
    Fault(
        "the last teacher layer never followed",
        "losses/layer_maps.py",
        "return tuple((i, k * (i + 1) - 1) for i in range(n_student))",
        "return tuple((i, k * i) for i in range(n_student))",
        ("losses/test_layer_maps.py",),
    ),
    Fault(
        "padding counts as query and key",
        "models/features.py",
        "real = attention_mask.bool()",
        "real = torch.ones_like(attention_mask).bool()",
        ("models/test_features.py", "losses/test_feature_losses.py"),
    ),
    Fault(
        "projectors not trained",
        "training/trainer.py",
        "setattr(model, _PROJECTORS, terms.projectors)",
        "pass",
        ("training/test_trainer.py",),
    ),
    Fault(
        "features requested and never compared",
        "losses/distillation_config.py",
        '"hidden_loss": self.hidden_loss_weight * self.intermediate_layers,',
        '"hidden_loss": 0.0,',
        ("losses/test_distillation_config.py", "training/test_trainer.py"),
    ),
    Fault(
        "no gradient through the softmax's normaliser",
        "losses/divergence_gradients.py",
        "return weighted.sub_(q.mul_(weighted.sum(dim=-1, keepdim=True)))",
        "return weighted",
        ("losses/test_divergence_gradients.py", "llm/test_fused_loss.py"),
    ),
    Fault(
        "padded rows of a head counted",
        "llm/output_heads.py",
        "weight=head.weight.detach()[:vocab_size].to(dtype)",
        "weight=head.weight.detach().to(dtype)",
        ("llm/test_fused_loss.py",),
    ),
    Fault(
        "the bucket of top-k targets forgotten",
        "llm/target_kinds.py",
        "shares.mul_(gradient[:, -1:])",
        "shares.mul_(0.0)",
        ("llm/test_token_targets.py",),
    ),
    Fault(
        "sampled targets without their weights",
        "llm/target_kinds.py",
        "-1 / ids.shape[1]",
        "-1.0",
        ("llm/test_token_targets.py",),
    ),
    Fault(
        "rows of another sequence's targets",
        "llm/token_target_store.py",
        "rows = slice(row, row + self.n_tokens[index])",
        "rows = slice(0, self.n_tokens[index])",
        ("llm/test_token_target_store.py",),
    ),
    Fault(
        "the prompt learnt too",
        "llm/completion_dataset.py",
        "[IGNORE_INDEX] * first + ids[first:]",
        "ids",
        ("llm/test_completion_dataset.py",),
    ),
    Fault(
        "on-policy coins that a resumed run throws anew",
        "llm/trainer.py",
        "derived_seed(self.args.seed, self.state.global_step)",
        "derived_seed(self.args.seed, torch.randint(10**6, ()).item())",
        ("llm/test_trainer.py",),
    ),
    Fault(
        "on-policy batches never written",
        "llm/trainer.py",
        "if coin < self.on_policy_fraction:",
        "if coin < 0:",
        ("llm/test_trainer.py",),
    ),
    Fault(
        "a NaN loss trained on",
        "llm/trainer.py",
        'if not values["total_loss"].isfinite():',
        "if False:",
        ("llm/test_trainer.py",),
    ),
    Fault(
        "a mean over batches instead of tokens under accumulation",
        "llm/trainer.py",
        "num_items=num_items_in_batch if model.training else None",
        "num_items=None",
        ("llm/test_trainer.py",),
    ),
    Fault(
        "left-over positions of another tokenizer compared",
        "llm/cross_tokenizer.py",
        "mask & (mask.cumsum(dim=1) <= pairs[:, None])",
        "mask & (mask.cumsum(dim=1) <= pairs.max())",
        ("llm/test_cross_tokenizer.py",),
    ),
    Fault(
        "a torn line left in the journal",
        "api/journal/append_only_file.py",
        "file.truncate(size - len(last))",
        "pass",
        ("api/journal/test_journal.py",),
    ),
    Fault(
        "the sample not in the key",
        "api/journal/records.py",
        'f"{canonical}#{sample}"',
        'f"{canonical}"',
        ("api/journal/test_records.py", "api/collecting/test_collector.py"),
    ),
    Fault(
        "few-shot examples not sent",
        "api/teachers/providers.py",
        "[*system, *_turns(examples)]",
        "system",
        ("api/teachers/test_providers.py",),
    ),
    Fault(
        "a budget looked at after the call",
        "api/costs/budget.py",
        "worst = self.usage + self._reserved + most",
        "worst = self.usage",
        ("api/collecting/test_collector.py",),
    ),
    Fault(
        "a failure that is not recorded",
        "api/collecting/worker_pool.py",
        "self._scribe.write(JournalRecord.of(request, planned.text, outcome, planned.sample))",
        "isinstance(outcome, Failure) or self._scribe.write(JournalRecord.of(request, planned.text, outcome,"
        " planned.sample))",
        ("api/collecting/test_collector.py",),
    ),
    Fault(
        "truncated answers are examples",
        "api/collecting/collector.py",
        "elif record.answer is not None and not record.answer.usable:",
        "elif record.answer is not None and not record.answer.text:",
        ("api/collecting/test_collector.py",),
    ),
    Fault(
        "off-label mass lost",
        "api/labels/label_probabilities.py",
        "off_label.append(max(0.0, 1 - float(mean_seen.sum())))",
        "off_label.append(0.0)",
        ("api/labels/test_label_probabilities.py",),
    ),
    Fault(
        "the system prompt not charged",
        "api/costs/pricing.py",
        "system = requests * system_prompt_tokens",
        "system = system_prompt_tokens",
        ("api/costs/test_pricing.py",),
    ),
)


def plant(fault: Fault, package: Path) -> None:
    """Write the fault into a copy of the package. Raises ValueError where its place is not found exactly once."""
    file = package / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: {fault.old!r} stands {text.count(fault.old)} times in {fault.file}")
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def failing_tests(fault: Fault) -> list[str]:
    """The names of the tests that fail with the fault, until the first three."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("distill_helpers", "tests", "data", "notebooks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, copy)
        plant(fault, copy / "distill_helpers")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=3", "-m", "not slow"]
        result = subprocess.run(
            [*command, *(f"tests/{name}" for name in fault.tests)],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode not in (0, 1):  # 1: some test failed; anything else is not a verdict
            raise RuntimeError(f"{fault.name}: pytest ended with {result.returncode}\n{result.stdout[-2000:]}")
    return re.findall(r"^FAILED tests/(\S+)", result.stdout, flags=re.M)


def main() -> None:
    unnoticed = []
    print("| fault | module | noticed by |\n|---|---|---|")
    for fault in FAULTS:
        failed = failing_tests(fault)
        print(
            f"| {fault.name} | `{fault.file}` | {', '.join(f'`{name}`' for name in failed) or '**nothing**'} |",
            flush=True,
        )
        if not failed:
            unnoticed.append(fault.name)
    if unnoticed:
        sys.exit(f"no test notices: {', '.join(unnoticed)}")


if __name__ == "__main__":
    main()
