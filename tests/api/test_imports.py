"""`distill_helpers.api` is light: only its data set needs torch, and only a teacher needs a provider's SDK."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "transformers",
    "pandas",
    "sklearn",
    "scipy",
    "openai",
    "anthropic",
    "aiohttp",
    "httpx2",
    "ipywidgets",
    "xllamacpp",
}

CHILD = """
import importlib, json, pkgutil, sys

import distill_helpers.api as api

modules = [module.name for module in pkgutil.walk_packages(api.__path__, "distill_helpers.api.")]
modules.remove("distill_helpers.api.journal_dataset")
for module in modules:
    importlib.import_module(module)
names = [name for name in api.__all__ if name not in ("JournalDataset", "dataset_from_journal", "text_examples")]
for name in names:
    getattr(api, name)
light = sorted(sys.modules)
api.OpenAITeacher("m", api_key="k")
print(json.dumps({"modules": modules, "names": names, "light": light, "with a teacher": sorted(sys.modules)}))
"""


@pytest.mark.slow
def test_everything_but_the_data_set_loads_neither_torch_nor_an_sdk() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    loaded = json.loads(child.stdout)
    assert len(loaded["modules"]) > 25
    assert {"APIDistillationDataCollector", "local_server", "review_widget", "OpenAITeacher"} < set(loaded["names"])
    assert HEAVY & set(loaded["light"]) == set()
    # A teacher brings its own SDK alone.
    assert HEAVY & set(loaded["with a teacher"]) == {"openai", "aiohttp", "httpx2"}


@pytest.mark.parametrize("missing", ["msgspec"])
def test_without_the_extra_the_error_names_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from distill_helpers.api import APIDistillationDataCollector"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'needs the package {missing}; run `pip install "distill-helpers[api]"`' in child.stderr
