"""Short trainings that several tests make, and the way to stop one."""

import json
import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainingArguments

from distill_helpers import DistillationDataset, load_text_classifier, train_student_with_distillation
from distill_helpers.data.installed_files import file_sha256

TRACKERS = {"wandb", "tensorboard", "tensorboardX", "mlflow", "comet_ml", "neptune", "clearml", "trackio", "swanlab"}


def train(student, sets, folder, config=None, **settings):
    settings = {"n_epochs": 1, "batch_size": 16, "device": "cpu", "progress": False} | settings
    return train_student_with_distillation(student, *sets, config, output_dir=folder, **settings)


def arguments(folder, **changes):
    """Of four steps that log, save and report nothing."""
    settings = {
        "max_steps": 4,
        "per_device_train_batch_size": 3,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": True,
        "seed": 0,
    }
    return TrainingArguments(str(folder), **settings | changes)


def flat(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def weights_sha256(folder):
    return file_sha256(Path(folder) / "model.safetensors")


class StopAt(TrainerCallback):
    """Ends the run at a step: with an exception, or by a SIGKILL that nothing can catch."""

    def __init__(self, step, kill=False):
        self.step, self.kill = step, kill

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt


# Three epochs of three steps, with dropout: the generator's state has to be found again too.
RUN = {"n_epochs": 3, "learning_rate": 5e-3, "batch_size": 16, "seed": 11}
MID_THIRD_EPOCH = 8


def train_from(inputs, output, *callbacks, **settings):
    """A run that is wholly defined by the files in a folder, so that another process can make it too."""
    inputs = Path(inputs)
    student = load_text_classifier(inputs / "student", device="cpu")
    sets = json.loads((inputs / "sets.json").read_text(encoding="utf-8"))
    logits = load_file(inputs / "logits.safetensors")
    datasets = [
        DistillationDataset(sets[name]["texts"], sets[name]["labels"], logits[name], student.tokenizer)
        for name in ("train", "validation")
    ]
    return train(student, datasets, output, callbacks=callbacks, **RUN | settings)
