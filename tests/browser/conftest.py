"""A real JupyterLab, a real Chromium, and pages with a notebook whose cells have run. They end with the test module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from lab import Lab, running_lab
from opened import Opened, open_and_run
from playwright.sync_api import Browser, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's own browser; Playwright's is a download that the course does not ask for."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser: install Chromium or Chrome so that one of {', '.join(PROGRAMS)} is on the PATH")
    # Chromium's sandbox refuses to run as root, as in a container. The page shows nothing but this repository's
    # content.
    flags = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, headless=True, args=flags)
        yield running
        running.close()


@pytest.fixture(scope="module")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab in a temporary folder. The fixture needs the browser, so that nothing starts without one."""
    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest, browser: Browser, lab: Lab) -> Iterator[Opened]:
    """The notebook that the parameter names."""
    with open_and_run(request.param, browser, lab) as notebook:
        yield notebook
