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
    def on_top(statement: str, libraries: str) -> None:
        alone = min(run(f"import {libraries}")["seconds"] for _ in range(3))
        # What comes on top is timed by itself: the difference of two whole imports is the machine's noise.
        package = min(run(statement, before=f"import {libraries}")["seconds"] for _ in range(3))
        print(f"{libraries} {alone:.2f} s, {statement} on top of them {package:.3f} s")
        assert package < 0.1 * alone

    on_top("import distill_helpers", "torch, transformers")
    on_top("from distill_helpers.losses import *", "torch")
