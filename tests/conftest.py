"""Fixtures that several test files share. The network is refused in the conftest.py above."""

import gc

import pytest

# Its names are imported when they are used: with several workers, the process that only hands out tests needs none.
import distill_helpers as dh

# The imports of all test files make a million objects that stay, and the collector would look through them many times.
gc.disable()


@pytest.fixture(autouse=True, scope="session")
def little_garbage():
    """Leaves the imported modules out of garbage collection.

    The Trainer collects garbage before each run. In a run of a second, looking through a million objects of libraries
    would take a third of the time.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def help_desk():
    return dh.load_help_desk()


@pytest.fixture(scope="session")
def base_tokenizer():
    from transformers import AutoTokenizer

    from distill_helpers.models.loading import base_encoder_path

    return AutoTokenizer.from_pretrained(base_encoder_path())


@pytest.fixture(scope="session")
def small_tokenizer(base_tokenizer, help_desk):
    tokenizer, _ = dh.trim_vocabulary(base_tokenizer, help_desk.train.texts[:200], 400)
    tokenizer.model_max_length = 32
    return tokenizer


@pytest.fixture(scope="session")
def make_classifier(small_tokenizer, help_desk):
    """Makes a tiny classifier with random weights, the help desk's classes and `small_tokenizer`."""

    def make(seed=0, *, n_layers=2, hidden_size=32, dropout=0.0):
        model = dh.create_transformer(
            help_desk.label_names,
            len(small_tokenizer),
            hidden_size=hidden_size,
            n_layers=n_layers,
            max_length=32,
            dropout=dropout,
            seed=seed,
        )
        return dh.TextClassifier(model, small_tokenizer)

    return make


@pytest.fixture(scope="session")
def make_sets(small_tokenizer, help_desk):
    """Makes 48 training messages (every third unlabelled) and 21 validation messages, with invented teacher logits."""
    import torch

    def make(logits_seed=0, label_shift=0, with_logits=True):
        generator = torch.Generator().manual_seed(logits_seed)
        # Every so many, since the messages are in the order of their classes.
        train, validation = help_desk.train.subset(range(0, 2496, 52)), help_desk.validation.subset(range(0, 399, 19))
        labels = [(label + label_shift) % 5 if row % 3 else -100 for row, label in enumerate(train.labels)]
        logits = [
            torch.randn(len(data), 5, generator=generator) * 3 if with_logits else None for data in (train, validation)
        ]
        return (
            dh.DistillationDataset(train.texts, labels, logits[0], small_tokenizer),
            dh.DistillationDataset(validation.texts, validation.labels, logits[1], small_tokenizer),
        )

    return make


@pytest.fixture(scope="session")
def contrary_sets(small_tokenizer, help_desk):
    """Training labels that contradict those of validation, on the same texts: to learn the one is to unlearn the other.

    With alpha 0, six epochs, a learning rate of 5e-3 and batches of 4, validation accuracy is so best in an early epoch
    and near 0 in the last one.
    """
    data = help_desk.validation.subset(range(0, 384, 12))
    texts = [" ".join(text.split()[:4]) for text in data.texts]
    shifted = [(label + 1) % 5 for label in data.labels]
    return (
        dh.DistillationDataset(texts, shifted, None, small_tokenizer),
        dh.DistillationDataset(texts, data.labels, None, small_tokenizer),
    )
