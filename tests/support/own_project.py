"""A project that has nothing of this repository but the package: run by tests/test_wheel.py in a process of its own.

Arguments: the folder in which the wheel is unpacked, then the other folders to import from. The program writes two CSV
files into the working directory, fine-tunes a teacher on them, runs the example of the package's page, and prints what
came out.
"""

import json
import random
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

QUEUES = {
    "network": "wifi router cable ping vpn",
    "printing": "paper toner ink tray printer",
    "screen": "pixel monitor dark flicker hdmi",
}
# Words that say nothing. A student 128 wide starts from its teacher's embeddings only if at least 128 tokens occur.
COMMON = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lnrs"]


def messages(n: int, draw: random.Random) -> Iterator[tuple[str, str]]:
    """Messages with two words of their queue among six that every queue has."""
    for row in range(n):
        queue = list(QUEUES)[row % len(QUEUES)]
        words = draw.choices(QUEUES[queue].split(), k=2) + draw.choices(COMMON, k=6)
        draw.shuffle(words)
        yield " ".join(words), queue


def fine_tune(folder: str) -> None:
    """Save a teacher that has learned the messages from their labels, and has a tokenizer of their words."""
    from transformers import BertTokenizer

    import distill_helpers as dh

    data = dh.load_csv("train.csv", "test.csv", text_column="message", label_column="queue")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *COMMON, *" ".join(QUEUES.values()).split()]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, model_max_length=32)
    model = dh.create_transformer(data.label_names, len(vocabulary), hidden_size=128, n_layers=2, max_length=32)
    sets = [dh.DistillationDataset(part.texts, part.labels, None, tokenizer) for part in (data.train, data.validation)]
    dh.train_student_with_distillation(
        dh.TextClassifier(model, tokenizer),
        *sets,
        dh.DistillationConfig(alpha=0.0),
        n_epochs=12,
        batch_size=8,
        output_dir=folder,
        progress=False,
    )


def main(site: str) -> None:
    from transformers import AutoModelForSequenceClassification

    import distill_helpers as dh

    assert find_spec("distill_helpers.course") is None
    draw = random.Random(0)
    for name, n in (("train", 240), ("test", 60)):
        rows = [f"{text},{queue}" for text, queue in messages(n, draw)]
        Path(f"{name}.csv").write_text("\n".join(["message,queue", *rows]) + "\n", encoding="utf-8")
    fine_tune("my-teacher")

    (example,) = re.findall(r"```python\n(.*?)```", metadata.metadata("distill-helpers").get_payload(), flags=re.DOTALL)
    names: dict = {}
    exec(example, names)

    models = {"teacher": names["teacher"], "student": names["result"].classifier}
    labels = AutoModelForSequenceClassification.from_pretrained("distilled_model").config.id2label
    files = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "distill_helpers"}
    found = {
        "classes": [labels[i] for i in range(len(labels))],
        "accuracy": {name: dh.evaluate(model, names["data"].test)["accuracy"] for name, model in models.items()},
        "from elsewhere": sorted(name for name, file in files.items() if not Path(str(file)).is_relative_to(site)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    sys.path += sys.argv[1:]
    import sitecustomize  # noqa: F401  (refuses the network)

    main(sys.argv[1])
