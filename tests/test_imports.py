"""What an import costs: which libraries come with it, and its time beside that of the libraries that it needs."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "pandas", "sklearn", "scipy", "peft", "accelerate", "datasets", "huggingface_hub")
OPTIONAL = (
    "wandb",
    "jupytext",
    "tabulate",
    "openai",
    "anthropic",
    "matplotlib",
    "ipywidgets",
    "xllamacpp",
    "gguf",
    "trl",
)

#: Statement → the heavy libraries that it may load.
ALLOWED = {
    "import distill_helpers": (),
    "import distill_helpers as dh; dir(dh), dh.losses, dh.api, dh.llm, dh.landmarks": (),
    "from distill_helpers.data import *": (),
    "from distill_helpers.losses import *": ("torch",),
    "from distill_helpers import DistillationConfig, DistillationLoss, fused_distillation_loss": ("torch",),
    "from distill_helpers.api import collecting, costs, journal, teachers, APIDistillationDataCollector, Budget": (),
}

CHILD = """
import json, sys, time
start = time.perf_counter()
exec(sys.argv[1])
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "loaded": sorted(m for m in sys.modules if "." not in m)}))
"""


def run(statement: str, before: str = "") -> dict:
    """The seconds that a statement takes in a fresh process, and the libraries that are loaded after it."""
    child = [sys.executable, "-c", f"{before}\n{CHILD}", statement]
    return json.loads(subprocess.run(child, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    "statement", [pytest.param(s, marks=pytest.mark.slow) if "torch" in may else s for s, may in ALLOWED.items()]
)
def test_an_import_brings_no_library_that_it_does_not_need(statement: str) -> None:
    loaded = set(run(statement)["loaded"])
    assert loaded & {*HEAVY, *OPTIONAL} == set(ALLOWED[statement])


@pytest.mark.slow
def test_every_public_name_comes_without_an_optional_package() -> None:
    assert set(run("from distill_helpers import *")["loaded"]) & set(OPTIONAL) == set()


@pytest.mark.alone
@pytest.mark.slow
def test_importing_the_package_costs_next_to_nothing_beyond_its_libraries() -> None:
    libraries = min(run("import torch, transformers")["seconds"] for _ in range(3))
    package = min(run("import distill_helpers", before="import torch, transformers")["seconds"] for _ in range(3))
    torch = min(run("import torch")["seconds"] for _ in range(3))
    losses = min(run("from distill_helpers.losses import *")["seconds"] for _ in range(3))
    print(f"torch and transformers {libraries:.2f} s, distill_helpers on top of them {package:.3f} s")
    print(f"torch {torch:.2f} s, every name of distill_helpers.losses {losses:.2f} s")
    assert package < 0.1 * libraries
    assert losses < 1.25 * torch
