"""One epoch of the same student on the same messages, three ways, side by side.

    python tests/benchmarks/training_speed.py [--messages N] [--rounds N]

* package: `DistillationDataset` and `DistillationTrainer`;
* bare loop: the same batches, the loss written out, nothing else;
* article: every item tokenised again at every visit and padded to 512.

The rounds alternate, the medians are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments, get_cosine_schedule_with_warmup
from transformers.trainer_callback import PrinterCallback

import distill_helpers as dh

BATCH_SIZE, LENGTH, TEMPERATURE, ALPHA = 32, 512, 2.0, 0.7


class TokeniseAgain(Dataset):
    """Tokenises and pads to 512 whenever an item is asked for."""

    def __init__(self, data: dh.LabelledTexts, logits: torch.Tensor, tokenizer: object) -> None:
        self.data, self.logits, self.tokenizer = data, logits, tokenizer

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        encoded = self.tokenizer(
            self.data.texts[i], truncation=True, padding="max_length", max_length=LENGTH, return_tensors="pt"
        )
        return {
            "input_ids": encoded["input_ids"][0],
            "attention_mask": encoded["attention_mask"][0],
            "labels": torch.tensor(self.data.labels[i]),
            "teacher_logits": self.logits[i],
        }


def plain_epoch(model: torch.nn.Module, loader: DataLoader) -> None:
    """A training epoch with nothing around it."""
    model.train()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, len(loader) // 10, len(loader))
    for batch in loader:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        p = (batch["teacher_logits"] / TEMPERATURE).softmax(-1)
        log_q = (logits / TEMPERATURE).log_softmax(-1)
        soft = TEMPERATURE**2 * F.kl_div(log_q, p, reduction="batchmean")
        loss = ALPHA * soft + (1 - ALPHA) * F.cross_entropy(logits, batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


WAYS = ("package", "bare loop", "article")


def measure(n_messages: int = 2517, rounds: int = 3, names: tuple[str, ...] = WAYS) -> dict[str, float]:
    """Median seconds of an epoch for each of the named ways."""
    desk = dh.load_help_desk()
    data = desk.train if n_messages >= len(desk.train) else desk.train.sample(n_messages / len(desk.train))
    teacher = dh.load_course_model("help-desk-teacher", device="cpu")
    # What the targets are makes no difference to the time.
    logits = torch.randn(len(data), len(data.label_names), generator=torch.Generator().manual_seed(0))

    def student() -> dh.TextClassifier:
        return dh.create_student(teacher, desk.train.texts, vocab_size=5000, max_length=LENGTH)

    def package(fresh: dh.TextClassifier) -> None:
        dataset = dh.DistillationDataset(data.texts, data.labels, logits, fresh.tokenizer)
        arguments = TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.01,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        )
        config = dh.DistillationConfig(temperature=TEMPERATURE, alpha=ALPHA)
        collator = dh.DistillationCollator(fresh.tokenizer)
        trainer = dh.DistillationTrainer(fresh.model, config, arguments, train_dataset=dataset, data_collator=collator)
        trainer.remove_callback(PrinterCallback)
        trainer.train()

    def bare(fresh: dh.TextClassifier) -> None:
        dataset = dh.DistillationDataset(data.texts, data.labels, logits, fresh.tokenizer)
        collator = dh.DistillationCollator(fresh.tokenizer)
        plain_epoch(fresh.model, DataLoader(dataset, BATCH_SIZE, shuffle=True, collate_fn=collator))

    def article(fresh: dh.TextClassifier) -> None:
        dataset = TokeniseAgain(data, logits, fresh.tokenizer)
        plain_epoch(fresh.model, DataLoader(dataset, BATCH_SIZE, shuffle=True))

    ways: dict[str, Callable[[dh.TextClassifier], None]] = dict(zip(WAYS, (package, bare, article), strict=True))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    bare(student())  # warm-up
    for _ in range(rounds):
        for name in names:
            fresh = student()
            start = time.perf_counter()
            ways[name](fresh)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2517)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    result = measure(arguments.messages, arguments.rounds)
    result["article / package"] = result["article"] / result["package"]
    result["package / bare loop"] = result["package"] / result["bare loop"]
    print(json.dumps({name: round(value, 2) for name, value in result.items()}, indent=2))
