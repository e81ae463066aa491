"""Runs all experiments of this folder, or the named ones. See the package's docstring."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

__all__ = ["experiments", "in_order"]


def experiments() -> dict[str, tuple[str, ...]]:
    """Find the experiments of this folder: each module that has a log, with the modules that it needs."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        module = import_module(f"{__package__}.{path.stem}")
        if hasattr(module, "LOG"):
            found[path.stem] = tuple(getattr(module, "NEEDS", ()))
    return found


def in_order(names: Iterable[str], needs: dict[str, tuple[str, ...]]) -> list[str]:
    """Sort names of experiments so that each comes after the ones that it needs.

    Args:
        names: the experiments to run; an experiment that one of them needs is not added, since its log may be there.
        needs: as `experiments` returns them.

    Raises:
        ValueError: a name that is no experiment.
    """
    wanted = set(names)
    if unknown := sorted(wanted - set(needs)):
        raise ValueError(f"no experiment {', '.join(unknown)}; there are {', '.join(needs)}")
    return [name for name in TopologicalSorter(needs).static_order() if name in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the runs that the experiments' logs lack, then their tables.")
    parser.add_argument("names", nargs="*", help="such as t_squared; default all")
    needs = experiments()
    for name in in_order(parser.parse_args().names or needs, needs):
        print(f"== {name}", flush=True)
        # In a process of its own, which gives its memory back.
        if code := subprocess.run([sys.executable, "-m", f"{__package__}.{name}"], check=False).returncode:
            sys.exit(code)


if __name__ == "__main__":
    main()
