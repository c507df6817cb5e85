"""Learning rates: our warm-up, transformers' cosine."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from varireal_utils.models.schedule import cosine_with_warmup


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (7, 0), (50, 1), (20, 20), (1, 0)])
def test_the_cosine_is_transformers_own(steps, warmup):
    """Equal to 1e-12 after the warm-up, in which ours is one step ahead: it starts above 0."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-3)
    schedule = get_cosine_schedule_with_warmup(optimiser, warmup, steps)
    theirs = []
    for _ in range(steps + 1):
        theirs.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    ours = [cosine_with_warmup(s, steps, 3e-3, warmup) for s in range(steps)]
    assert ours[warmup:] == pytest.approx(theirs[warmup:steps], rel=1e-12)
    assert ours[:warmup] == pytest.approx(theirs[1 : warmup + 1], rel=1e-12)
    assert all(rate > 0 for rate in ours)


def test_the_least_rate_is_the_end_of_the_cosine():
    rates = [cosine_with_warmup(s, 1000, 1.0, 100, least=0.25) for s in range(1000)]
    assert max(rates) == 1.0 and rates[99] == rates[100] == 1.0
    assert 0.25 < rates[-1] < 0.2501
