"""Seeds of the parts of a run."""

import torch

from distill_helpers.llm.seeds import derived_seed, seeded


def test_every_part_of_every_run_has_its_own_seed():
    seeds = {derived_seed(seed, number) for seed in range(20) for number in range(1000)}
    assert len(seeds) == 20 * 1000
    assert derived_seed(derived_seed(2**32 - 1, 10**6), 1008, factor=1_009) < 2**63  # what torch accepts


def test_inside_the_seed_decides_and_outside_nothing_changes():
    cpu = torch.device("cpu")
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    drawn = [torch.rand(1)]
    with seeded(1, cpu):
        one = torch.rand(3)
    with seeded(1, cpu):
        assert torch.equal(torch.rand(3), one)
    drawn.append(torch.rand(1))
    assert torch.equal(torch.cat(drawn), expected)
