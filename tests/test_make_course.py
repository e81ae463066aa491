"""`make course` ends in a JupyterLab that answers and has the first notebook open to serve."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_make_course_reaches_a_jupyterlab_that_answers(tmp_path: Path) -> None:
    if not (ROOT / ".venv/.ready").exists():
        pytest.skip("run through `make test`, which sets .venv up")
    log = tmp_path / "jupyter.log"
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            ["make", "course", "JUPYTER_FLAGS=--no-browser --allow-root --ServerApp.port=0 --ServerApp.port_retries=0"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")},
        )
    try:
        address = None
        while address is None and process.poll() is None and time.perf_counter() - start < 60:
            address = re.search(r"(http://127\.0\.0\.1:\d+)/lab/tree/\S+?\?token=(\w+)", log.read_text())
            time.sleep(0.2)
        assert address, log.read_text()
        url, token = address.groups()
        assert "notebooks/00_start_here.ipynb" in address[0]
        with urllib.request.urlopen(f"{url}/lab?token={token}", timeout=30) as page:
            assert b"JupyterLab" in page.read()
        contents = f"{url}/api/contents/notebooks/00_start_here.ipynb?content=0&token={token}"
        with urllib.request.urlopen(contents, timeout=30) as answer:
            assert json.load(answer)["type"] == "notebook"
        for plugin, setting, value in (
            ("@jupyterlab/apputils-extension:notification", "fetchNews", "false"),
            ("@jupyter-widgets/jupyterlab-manager:plugin", "saveState", True),
            ("@jupyterlab/docmanager-extension:plugin", "defaultViewers", {"markdown": "Markdown Preview"}),
        ):
            with urllib.request.urlopen(f"{url}/lab/api/settings/{plugin}?token={token}", timeout=30) as answer:
                assert json.load(answer)["schema"]["properties"][setting]["default"] == value
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    assert time.perf_counter() - start < 60, "a second run starts in seconds"
