"""A language model's distillation loss with both output heads, forward and backward: this package and its peers.

    make bench, or
    python tests/benchmarks/fused_head.py [--rounds N] [--cases 50k ...] [--names NAME ...]

Every measurement is a process of its own, so that its peak of memory is its own; the ways take turns, round by round.
Seconds are the best of `REPEATS` in a process, then the median over the rounds; memory is the peak above the start.

Peers: TRL's dense loss (GKD) and its tiled one (`DistillationTrainer`), Liger's chunked loss at its default chunk of
1,024 rows and at 128, torchtune's chunked forward KL, and the article's loss (`KLDivLoss(reduction="batchmean")` on all
logits). Those that take a mask of labels compute the masked rows as well: that is their way. For the teacher's 64
likeliest tokens instead of its hidden states: Axolotl's chunked loss on logits, and its fused one on Liger's base.

"products alone" is no loss: the matrix products that each of the losses needs, of all rows at once, which is fastest.
None of them can take less time.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

REPEATS = 5
IGNORED = -100


class Case(NamedTuple):
    """Sizes of a measurement."""

    vocabulary: int
    tokens: int
    student_width: int
    teacher_width: int


#: In place of a divergence: forward KL on the teacher's 64 likeliest tokens.
TOP = "top_64"
SETTING = ["case", "divergence", "masked"]
CASES = {"50k": Case(50257, 1024, 512, 768), "152k": Case(151936, 512, 256, 384)}


class Inputs(NamedTuple):
    """Hidden states (tokens, width) and heads (vocabulary, width) of both models; True counts in the mask.

    In place of a teacher, for `TOP`: `ids` (tokens, 64) and `log_probs` (tokens, 65), the last of all other tokens.
    """

    student: Tensor
    student_head: Tensor
    teacher: Tensor
    teacher_head: Tensor
    mask: Tensor
    ids: Tensor
    log_probs: Tensor


def package(inputs: Inputs, divergence: str, *, compiled: bool = False) -> Tensor:
    """Ours."""
    from distill_helpers.llm.fused_loss import fused_distillation_loss
    from distill_helpers.llm.target_kinds import TopKTargets

    mask = None if bool(inputs.mask.all()) else inputs.mask
    if divergence == TOP:
        ids, log_probs = inputs.ids[inputs.mask], inputs.log_probs[inputs.mask]
        targets = TopKTargets(ids, log_probs[:, :-1], log_probs[:, -1])
        return fused_distillation_loss(inputs.student, inputs.student_head, targets, mask=mask)
    # The peers' Jensen–Shannon divergence is the paper's, without our normalisation: a quarter of it.
    options = {"normalized": False} if divergence == "generalized_jsd" else {}
    return fused_distillation_loss(*inputs[:4], mask, divergence=divergence, compiled=compiled, **options)


def package_compiled(inputs: Inputs, divergence: str) -> Tensor:
    """Ours, with `torch.compile`."""
    return package(inputs, divergence, compiled=True)


def trl_dense(inputs: Inputs, divergence: str) -> Tensor:
    """TRL's GKD."""
    from trl.experimental.gkd import GKDTrainer

    labels = torch.where(inputs.mask, 0, IGNORED)[None]
    logits = (inputs.student @ inputs.student_head.t())[None], (inputs.teacher @ inputs.teacher_head.t())[None]
    return GKDTrainer.generalized_jsd_loss(*logits, labels=labels, beta=_beta(divergence))


def trl_tiled(inputs: Inputs, divergence: str) -> Tensor:
    """TRL's DistillationTrainer."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    heads = inputs.student_head, inputs.teacher_head
    return _chunked_divergence_loss(
        inputs.student[None], inputs.teacher[None], *heads, inputs.mask[None], _beta(divergence)
    )[0]


def liger(inputs: Inputs, divergence: str, chunk_size: int = 1024) -> Tensor:
    """Liger's chunked loss, eager as on a CPU."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=_beta(divergence), compiled=False, chunk_size=chunk_size
    )
    return loss(*inputs[:4], torch.where(inputs.mask, 0, IGNORED))


def liger_128(inputs: Inputs, divergence: str) -> Tensor:
    """Liger's chunked loss at a chunk of 128 rows."""
    return liger(inputs, divergence, chunk_size=128)


def torchtune(inputs: Inputs, divergence: str) -> Tensor:
    """torchtune's chunked forward KL, eight chunks; the cross-entropy, in truth: the same gradient."""
    from torchtune.modules.loss.kd_losses import ForwardKLWithChunkedOutputLoss

    if divergence != "forward_kl":
        raise SystemExit(f"torchtune has no {divergence}")
    student = [chunk @ inputs.student_head.t() for chunk in inputs.student[None].chunk(8, dim=1)]
    with torch.no_grad():
        teacher = [chunk @ inputs.teacher_head.t() for chunk in inputs.teacher[None].chunk(8, dim=1)]
    return ForwardKLWithChunkedOutputLoss()(student, teacher, torch.where(inputs.mask, 0, IGNORED)[None])


def article(inputs: Inputs, divergence: str) -> Tensor:
    """Everything at once."""
    if divergence != "forward_kl":
        raise SystemExit(f"the article has no {divergence}")
    log_q = F.log_softmax(inputs.student @ inputs.student_head.t(), dim=-1)
    with torch.no_grad():
        p = F.softmax(inputs.teacher @ inputs.teacher_head.t(), dim=-1)
    return F.kl_div(log_q[inputs.mask], p[inputs.mask], reduction="batchmean")


def axolotl_chunked(inputs: Inputs, divergence: str) -> Tensor:
    """Axolotl's loss on logits in eight chunks."""
    from axolotl.integrations.kd.topk_logprob.forward_kl import ChunkedTopKKDLoss

    logits = (inputs.student @ inputs.student_head.t())[None]
    return ChunkedTopKKDLoss()(logits, *_axolotl_targets(inputs))


def axolotl_fused(inputs: Inputs, divergence: str) -> Tensor:
    """Axolotl's loss on hidden states, over Liger's base, in chunks of 128 rows."""
    from axolotl.integrations.kd.kernels.liger import LigerFusedLinearKLTopKLogprobFunction

    labels = torch.where(inputs.mask, 0, IGNORED)[None]
    options = (None, 0.0, 1.0, IGNORED, 1.0, 0.0, False, 128, False)  # its forward pass takes them by place
    return LigerFusedLinearKLTopKLogprobFunction.apply(
        inputs.student[None], inputs.student_head, *_axolotl_targets(inputs), labels, *options
    )


def _axolotl_targets(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, renormalised log-probabilities and mask, (1, tokens, 64)."""
    mask = inputs.mask[:, None].expand_as(inputs.ids)
    return inputs.ids[None], inputs.log_probs[:, :-1].log_softmax(dim=-1)[None], mask[None]


def products(inputs: Inputs, divergence: str) -> Tensor:
    """The products with the heads, and no loss: a bound on seconds. All rows at once, each at a whole cache line."""
    rows = inputs.mask.nonzero().squeeze(1)
    with torch.no_grad():
        student, head = inputs.student[rows], inputs.student_head
        logits = student.new_empty(len(rows), -(-len(head) // 64) * 64)[:, : len(head)]
        if divergence != TOP:
            torch.mm(inputs.teacher[rows], inputs.teacher_head.t(), out=logits)
        torch.mm(student, head.t(), out=logits)
        of_student, of_head = logits @ head, logits.t() @ student
    return inputs.student[0, 0] * of_student.mean() * of_head[0, 0]


#: Every other way but the bound is a peer's; the compiled one stands beside them, and is not compared with them.
OURS, BOUND = "package", "products alone"
WAYS: dict[str, Callable[[Inputs, str], Tensor]] = {
    OURS: package,
    f"{OURS}, compiled": package_compiled,
    "Liger": liger,
    "Liger, chunks of 128": liger_128,
    "TRL, tiled": trl_tiled,
    "TRL, dense": trl_dense,
    "torchtune": torchtune,
    "article": article,
    BOUND: products,
}
#: The ways that take `TOP`.
TOP_WAYS: dict[str, Callable[[Inputs, str], Tensor]] = {
    OURS: package,
    "Axolotl, fused": axolotl_fused,
    "Axolotl, chunked": axolotl_chunked,
    BOUND: products,
}


def _beta(divergence: str) -> float:
    return {"forward_kl": 0.0, "generalized_jsd": 0.5}[divergence]


def make_inputs(case: Case, masked: float) -> Inputs:
    """Random ones with logits of unit scale; the share `masked` of the rows does not count."""
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, width: int, scale: float) -> Tensor:
        return torch.randn(rows, width, generator=generator).mul_(scale)

    mask = torch.rand(case.tokens, generator=generator) >= masked
    # Different ones in a row, without a permutation for each row, whose memory would be left in holes.
    first = torch.randint(case.vocabulary, (case.tokens, 1), generator=generator)
    ids = (first + torch.arange(64) * (case.vocabulary // 64)) % case.vocabulary
    log_probs = normal(case.tokens, 65, 2.0).log_softmax(dim=-1)
    return Inputs(
        normal(case.tokens, case.student_width, 1.0).requires_grad_(),
        normal(case.vocabulary, case.student_width, 2 * case.student_width**-0.5).requires_grad_(),
        normal(case.tokens, case.teacher_width, 1.0),
        normal(case.vocabulary, case.teacher_width, 2 * case.teacher_width**-0.5),
        mask,
        ids,
        log_probs,
    )


def measure(name: str, case: str, divergence: str, masked: float) -> dict[str, float]:
    """Seconds and megabytes of one way, in this process."""
    inputs, way = make_inputs(CASES[case], masked), (TOP_WAYS if divergence == TOP else WAYS)[name]
    small = make_inputs(Case(128, 16, 8, 8), 0.0)
    way(small, divergence).backward()  # imports, threads and the library's own buffers
    start = _forget_peak()
    seconds = []
    for _ in range(REPEATS):
        inputs.student.grad = inputs.student_head.grad = None
        began = time.perf_counter()
        loss = way(inputs, divergence)
        loss.backward()
        seconds.append(time.perf_counter() - began)
    peak = _memory("VmHWM") - start
    assert inputs.student.grad is not None
    return {"seconds": min(seconds), "MB": peak, "gradient": float(inputs.student.grad.norm())}


def _forget_peak() -> float:
    """Make the present the peak of this process's memory (Linux). Returns it, in megabytes."""
    # What was freed and not given back would be used again, and not count.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def compare(
    cases: list[str], divergences: list[str], masks: list[float], names: list[str], rounds: int
) -> pd.DataFrame:
    """All measurements, in turn, each in its own process."""
    lines = []
    for _ in range(rounds):
        for case in cases:
            for divergence in divergences:
                for masked in masks:
                    for name in (name for name in names if name in (TOP_WAYS if divergence == TOP else WAYS)):
                        settings = [name, case, divergence, str(masked)]
                        run = subprocess.run(
                            [sys.executable, __file__, "--one", *settings], capture_output=True, text=True, check=False
                        )
                        if run.returncode != 0:
                            print(f"{settings}: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                            continue
                        measured = json.loads(run.stdout.strip().splitlines()[-1])
                        lines.append({"case": case, "divergence": divergence, "masked": masked, "way": name} | measured)
    frame = pd.DataFrame(lines)
    return frame.groupby([*SETTING, "way"], sort=False)[["seconds", "MB", "gradient"]].median().reset_index()


def beside_the_best(table: pd.DataFrame) -> pd.DataFrame:
    """For each setting the package beside the fastest and the leanest peer, and the bound."""
    lines = []
    for setting, group in table.groupby(SETTING, sort=False):
        ways = group.set_index("way")
        ours, peers = ways.loc[OURS], ways.drop([OURS, f"{OURS}, compiled", BOUND], errors="ignore")
        fastest, leanest = peers["seconds"].idxmin(), peers["MB"].idxmin()
        line = dict(zip(SETTING, setting, strict=True)) | {"s": ours["seconds"], "fastest peer": fastest}
        line |= {"its s": peers["seconds"].min(), "share of its time": ours["seconds"] / peers["seconds"].min()}
        line |= {"MB": ours["MB"], "leanest peer": leanest, "its MB": peers["MB"].min()}
        line |= {"share of its memory": ours["MB"] / peers["MB"].min()}
        if BOUND in ways.index:
            line[f"{BOUND}, s"] = ways.loc[BOUND, "seconds"]
        lines.append(line)
    return pd.DataFrame(lines)


def markdown(table: pd.DataFrame) -> str:
    """A table of three significant digits."""
    rows = [
        [f"{cell:#.3g}".rstrip(".") if isinstance(cell, float) else str(cell) for cell in row]
        for row in table.to_numpy()
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(table), ["---"] * table.shape[1], *rows])


def page(table: pd.DataFrame, rounds: int) -> str:
    """Both tables, with what they are of."""
    sizes = "; ".join(
        f"{name}: {case.vocabulary:,} tokens in the vocabulary, {case.tokens:,} in the batch, widths"
        f" {case.student_width} and {case.teacher_width}"
        for name, case in CASES.items()
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "liger-kernel", "trl", "axolotl", "torchtune"))
    return (
        f"# A distillation loss with both output heads, forward and backward\n\n`make bench`, rounds: {rounds}, fp32 on"
        f" {torch.get_num_threads()} threads of a CPU; {versions}. {sizes}. `masked` is the share of tokens that do not"
        f" count. What is measured, and how, is said in `tests/benchmarks/fused_head.py`.\n\n"
        f"{markdown(beside_the_best(table))}\n\nAll ways:\n\n{markdown(table.drop(columns='gradient'))}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=4, metavar=("NAME", "CASE", "DIVERGENCE", "MASKED"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--divergences", nargs="+", default=["forward_kl", "generalized_jsd", TOP])
    parser.add_argument("--masked", nargs="+", type=float, default=[0.0, 0.5])
    parser.add_argument("--names", nargs="+", choices=list(WAYS | TOP_WAYS), default=list(WAYS | TOP_WAYS))
    parser.add_argument("--save", type=Path, help="a Markdown file for the tables")
    arguments = parser.parse_args()
    if arguments.one:
        name, case, divergence, masked = arguments.one
        print(json.dumps(measure(name, case, divergence, float(masked))))
        return
    table = compare(arguments.cases, arguments.divergences, arguments.masked, arguments.names, arguments.rounds)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    if arguments.save:
        arguments.save.write_text(page(table, arguments.rounds), encoding="utf-8")


if __name__ == "__main__":
    main()
