"""The example on the page of the package runs as it stands there; the names in its table exist."""

import re
import textwrap

import distill_helpers as dh
from distill_helpers import llm


def test_the_example_of_the_page_runs(make_language_model, help_desk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dh, "load_language_model", lambda: make_language_model(1, n_layers=30))
    block = llm.__doc__.split("learns from\nthem:\n")[1].split("What you need")[0]
    *statements, last = textwrap.dedent(block).strip().splitlines()
    names = {"texts": [" ".join(text.split()[: 5 + row]) for row, text in enumerate(help_desk.train.texts[:8])]}
    exec("\n".join(statements), names)
    assert len(names["student"].model.model.layers) == 10
    assert names["trainer"].state.global_step == 1  # 8 texts, a batch of 8
    assert eval(last, names)["tokens"] == sum(names["data"].n_tokens)


def test_the_names_on_the_page_exist():
    for name in re.findall(r"`([A-Za-z]\w*)`", llm.__doc__):
        assert hasattr(llm, name) or name == "on_policy_fraction", name
