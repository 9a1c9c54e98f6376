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
SMALL += ["logger.tensorboard=null", "callbacks.examples=null"]
"""So few steps that nothing is learnt."""
TINY = {"reproduce/counting": ["callbacks.accepted.up_to=3"], "reproduce/capacity": ["eval_size=4000"]}
TINY |= {f"reproduce/{name}": ["task.seq_len=60"] for name in ("warping", "bai_2018", "copying")}
TINY |= {"reproduce/rusch_2022": ["task.seq_len=60", "eval_size=128"]}
TINY |= {"reproduce/jozefowicz_2015": ["task.problems=500"], "reproduce/xml": ["task.length=20000"]}


def test_every_published_table_has_a_config_and_the_other_way_round():
    assert {name for name in EXPERIMENTS if "/" in name} == set(REPRODUCED)


@pytest.mark.parametrize("name", REPRODUCED)
def test_each_runs_and_ends_in_its_table(tmp_path, name):
    skip_without_data(name)
    cfg = load(tmp_path, f"experiment={name}")
    runs = itertools.chain(*batches(instantiate(cfg.hydra.sweeper)))
    # One seed and one rate will do.
    runs = list({tuple(o for o in r if o.partition("=")[0] not in ("seed", "optimizer.lr")): r for r in runs}.values())
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


def test_the_third_spike_is_as_far_from_the_second_as_that_from_the_first():
    task = SpikeDistance(50)
    batch = task.sample(200, torch.Generator().manual_seed(0))
    seen = set()
    for x, target in zip(batch.input[..., 0], batch.target[..., 0], strict=True):
        (first, second), (third,) = x.nonzero()[:, 0].tolist(), target.nonzero()[:, 0].tolist()
        assert third - second == second - first
        seen.add(second - first)
    assert seen == set(range(10, 21))
    everywhere = torch.full_like(batch.target, 1 / 50)
    assert task.baseline_loss == pytest.approx(task.loss(everywhere.view(-1, 1), batch.target.view(-1, 1)).item())
    assert task.baseline_loss == pytest.approx(((everywhere - batch.target) ** 2).sum(1).mean().item() / 2)
    answers = batch.target + torch.linspace(0, 0.5, 50)[:, None] * (torch.arange(200) % 4 == 0)[:, None, None]
    answers[::8, 49] += 1  # wrong in every eighth
    right = task.exact(answers.view(-1, 1), batch.target.view(-1, 1))
    assert right.tolist() == [k % 8 != 0 or batch.target[k, 49].item() == 1 for k in range(200)]


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
