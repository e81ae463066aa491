"""What every test has: no network, two threads, and the models that several of them share."""

import os
import sys
from pathlib import Path

OFFLINE = str(Path(__file__).parent / "offline")
# Before transformers is imported, and inherited by notebook kernels and other child processes.
os.environ["PYTHONPATH"] = os.pathsep.join([OFFLINE, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.path.insert(0, OFFLINE)
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402, F401  (installs the audit hook in this process)
