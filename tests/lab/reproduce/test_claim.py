"""Verdicts, and the table of what is published beside what was found."""

import math

import pandas as pd
import pytest
from made_up import make_run

from carousel.lab.records import collect
from carousel.lab.reproduce import claim
from carousel.lab.reproduce.claim import Claim

LOSS = claim.column("test/loss")


def claimed(rule, measure=LOSS, where=None):
    where = {"model": "lstm"} if where is None else where
    return Claim("LSTM: loss", "0.1", "A. Nobody 1999", where, measure, rule, "Other weather.")


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        (claim.at_least(3), [3, 4, math.inf], [2.9, math.nan]),
        (claim.at_most(3), [3, -1], [3.1, math.inf]),
        (claim.about(100, 2), [50, 100, 200], [49, 201, math.inf]),
        (claim.near(0.95, 0.01), [0.94, 0.96], [0.93, 0.97]),
    ],
)
def test_a_rule_holds_up_to_its_bound(rule, kept, broken):
    assert all(map(rule.holds, kept))
    assert not any(map(rule.holds, broken))


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([0.1, 0.2], "agrees"),
        ([0.4, 0.5], "disagrees"),
        ([0.1, 0.5, 0.6], "agrees in 1 of 3 seeds"),
        ([], "out of reach"),
    ],
)
def test_each_seed_is_judged(losses, verdict):
    assert claimed(claim.at_most(0.3)).verdict(pd.Series(losses, dtype=float)) == verdict


def test_the_table_says_what_is_published_what_was_found_and_why(tmp_path):
    for seed, loss in enumerate((0.1, 0.15, 0.2)):
        make_run(tmp_path, "lstm", 10, seed, val_loss=loss)
        make_run(tmp_path, "gru", 10, seed, val_loss=1.0)
    *_, table = claim.table(
        [claimed(claim.at_most(0.3)), claimed(claim.at_most(1), where={"model": "rnn"})], collect(tmp_path)
    )
    row = (
        "| LSTM: loss (A. Nobody 1999) | 0.1 | 0.15 (0.1 to 0.2) | 400 parameters, at most 3,200 sequences, seconds "
        "a run | agrees | Agrees if at most 0.3. Other weather. |"
    )
    assert row in table
    assert "| not measured |  | out of reach |" in table


def test_sequences_until_solved_are_never_of_a_run_that_is_not(tmp_path):
    make_run(tmp_path, "lstm", 10, 0, val_loss=0.001, steps_to_solve=50)
    make_run(tmp_path, "lstm", 10, 1, val_loss=0.16)
    found = claimed(claim.about(1600, 2), claim.sequences_until_solved).ours(collect(tmp_path))
    assert sorted(found) == [1600, math.inf]
    assert claim.spread(found[found > 1e9]) == "never (never to never)"


def test_two_models_are_compared_seed_by_seed(tmp_path):
    for seed, (first, second) in enumerate(((0.1, 0.2), (0.3, 0.1), (0.3, None))):
        make_run(tmp_path, "lstm", 10, seed, val_loss=first)
        if second:
            make_run(tmp_path, "gru", 10, seed, val_loss=second)
    tables = collect(tmp_path)
    found = claimed(claim.at_most(1), claim.ratio("test/loss", "lstm", "gru"), where={}).ours(tables)
    assert sorted(found) == pytest.approx([0.5, 3])
    runs = tables.results.set_index("run")
    assert set(runs.loc[found.index, "model"]) == {"lstm"}


def test_a_probe_counts_after_training(tmp_path):
    make_run(tmp_path, "lstm", 10, measures={"accepted_up_to": (3, 1000)})
    assert list(claimed(claim.at_least(1000), claim.probed("accepted_up_to")).ours(collect(tmp_path))) == [1000]
