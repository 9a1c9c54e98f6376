"""Every published table that is reproduced: it composes, runs, and ends in its table."""

import itertools

import pytest
import torch
from configs import EXPERIMENTS, load, skip_without_data
from hydra.utils import instantiate
from sweeps import batches

from carousel.lab import app
from carousel.lab.records import collect
from carousel.lab.report import write_report
from carousel.lab.reproduce import REPRODUCED
from carousel.lab.reproduce.timing import SpikeDistance
from carousel.lab.reproduce.warping import WarpedRecall
from carousel.lab.tasks import IGNORE

SMALL = [
    "trainer.max_steps=2",
    "trainer.val_check_interval=1",
    "trainer.log_every_n_steps=1",
    "eval_size=4",
    "hydra.mode=RUN",
]
SMALL += ["logger.tensorboard=null"]
"""So few steps that nothing is learnt."""
TINY = {"reproduce/counting": ["callbacks.accepted.up_to=3"], "reproduce/capacity": ["eval_size=4000"]}


def test_every_published_table_has_a_config_and_the_other_way_round():
    assert {name for name in EXPERIMENTS if "/" in name} == set(REPRODUCED)


@pytest.mark.parametrize("name", REPRODUCED)
def test_each_runs_and_ends_in_its_table(tmp_path, name):
    skip_without_data(name)
    cfg = load(tmp_path, f"experiment={name}")
    runs = [run for run in itertools.chain(*batches(instantiate(cfg.hydra.sweeper))) if "seed=0" in run]
    runs = list({tuple(o for o in run if "optimizer.lr" not in o): run for run in runs}.values())  # one rate will do
    for k, run in enumerate(runs):
        folder = tmp_path / f"{k}"
        app.run(load(folder, f"experiment={name}", *run, *SMALL, *TINY.get(name, [])))
    tables = collect(tmp_path)
    assert len(tables.results) == len(runs)
    assert set(tables.results["experiment"]) == {name}
    assert write_report(tables, tmp_path) == []
    text = (tmp_path / "report.md").read_text()
    last = text.strip().splitlines()[-len(REPRODUCED[name].CLAIMS) :]
    assert all(line.startswith("| ") and line.endswith(" |") for line in last)
    for line, claim in zip(last, REPRODUCED[name].CLAIMS, strict=True):
        assert line.startswith(f"| {claim.says} ({claim.source}) | {claim.published} | ")
        assert "out of reach" not in line  # each finds its runs


def test_spikes_come_at_the_distance_of_their_class():
    batch = SpikeDistance(7).sample(50, torch.Generator().manual_seed(0))
    assert batch.input.shape == (50, 21, 1)
    for spikes, longer in zip(batch.input[..., 0], batch.target.tolist(), strict=True):
        at = spikes.nonzero()[:, 0]
        assert 0 <= at[0] < 7
        assert at.diff().tolist() == [7 + longer] * (len(at) - 1)
        assert len(at) >= 2
        assert at[-1] + 7 + longer >= 21  # none is missing at the end
    assert set(batch.target.tolist()) == {0, 1}
    with pytest.raises(ValueError, match="distance must be an integer of at least 2, got 1"):
        SpikeDistance(1)


@pytest.mark.parametrize("uniform", [True, False])
def test_the_letter_before_is_asked_however_long_each_is_shown(uniform):
    batch = WarpedRecall(40, warp=5, uniform=uniform).sample(20, torch.Generator().manual_seed(0))
    for x, target in zip(batch.input.argmax(-1).tolist(), batch.target.tolist(), strict=True):
        groups = [(letter, len(list(same))) for letter, same in itertools.groupby(x)]
        assert {n for _, n in groups[:-1]} <= ({5} if uniform else set(range(1, 6)))
        letters = [letter for letter, n in groups for _ in range(n)]
        before = [IGNORE] * groups[0][1] + [groups[k][0] for k, (_, n) in enumerate(groups[1:]) for _ in range(n)]
        assert (x, target) == (letters, before)
    assert batch.input.argmax(-1).unique().numel() == 10
