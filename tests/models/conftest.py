"""Real messages of several lengths, and a tokenizer for them."""

import pytest

from distill_helpers.students.vocabulary import trim_vocabulary


@pytest.fixture(scope="module")
def messages(help_desk):
    """Real messages cut to 1 to 26 words, so that their order is not that of their lengths."""
    texts = help_desk.validation.texts[:30]
    return [" ".join(text.split()[: 1 + (7 * i) % 26]) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def tokenizer(messages, base_tokenizer):
    trimmed, _ = trim_vocabulary(base_tokenizer, messages, size=400)
    trimmed.model_max_length = 64
    return trimmed
