"""The tasks, cells and measures that published tables bring along."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from generators import generator
from made_up import make_run
from torch import nn

import carousel
from carousel.lab import data
from carousel.lab.model import SequenceModel
from carousel.lab.records import Tables, collect
from carousel.lab.reproduce import capacity, chrono, counting, jozefowicz_2015, mackey_glass, mnist1d
from carousel.lab.reproduce.bai_2018 import AddingAnywhere
from carousel.lab.reproduce.copying import CopySigned
from carousel.lab.reproduce.hochreiter_1997 import Start, TemporalOrder1997
from carousel.lab.reproduce.parity import SignedMinGRUCell
from carousel.lab.reproduce.reber import TARGETS, Reber1997
from carousel.lab.tasks import IGNORE, AnBn, Arithmetic, CopyMemory, real
from carousel.lab.tasks.synthetic.arithmetic import text


def test_the_start_of_1997():
    cell = carousel.LSTM(2, 4, without="forget_gate", init=Start(0.1, "i", [-3.0, -6.0])).cell()
    assert cell.bias_ih[cell.rows("i")].tolist() == [-3, -3, -6, -6]
    assert cell.bias_hh[cell.rows("i")].tolist() == [0] * 4
    assert 0.08 < cell.weight_hh.abs().max() <= 0.1
    with pytest.raises(ValueError, match="3 cells cannot be divided among 2 blocks"):
        carousel.LSTM(2, 3, without="forget_gate", init=Start(0.1, "i", [-3.0, -6.0]))


def test_the_loss_of_1997_is_half_the_squared_error_of_logistic_units():
    task = TemporalOrder1997(20)
    _, y, *_ = task.sample(4000, generator())
    assert float(task.loss(torch.zeros(1, 4), y[:1])) == pytest.approx(4 * 0.25 / 2)
    constant = torch.full((4000, 4), 0.25).logit()
    assert float(task.loss(constant, y)) == pytest.approx(3 / 8, abs=0.01)
    reber = Reber1997()
    targets = real(reber, batch := reber.sample(500, generator()), torch.zeros(*batch.input.shape, 7))[1]
    assert len(targets) / 500 == pytest.approx(TARGETS, rel=0.05)
    assert float(reber.loss(torch.zeros(len(targets), 7), targets)) == pytest.approx(TARGETS * 7 / 8)


def test_the_signed_cell_can_turn_its_state_over():
    cell = SignedMinGRUCell(1, 1, candidate="identity")
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[100.0], [0.0]]))  # z = 1 on a one, 0 on a zero
        cell.bias_ih.copy_(torch.tensor([-50.0, 1.0]))  # n = 1
    h, seen = torch.zeros(1, 1), []
    for bit in (1.0, 0.0, 1.0, 1.0):
        h = cell(torch.tensor([[bit]]), h)
        seen.append(round(h.item()))
    assert seen == [1, 1, 0, 1]  # h <- 1 - h on every one


def test_random_bits_are_the_same_wherever_they_are_asked():
    task = capacity.RandomBits(1000, seed=1)
    x, y, *_ = task.split("train")
    assert x.shape == (1000, 5, 8)
    assert set(x.unique().tolist()) == {-1, 1}
    assert 0.4 < y.float().mean() < 0.6
    assert all(torch.equal(x, task.split(name).input) for name in ("val", "test"))
    assert not torch.equal(y, capacity.RandomBits(1000, seed=2).split("train").target)
    with pytest.raises(ValueError, match="sequences must be an integer of at least 1, got 0"):
        capacity.RandomBits(0)


def test_bits_stored_are_those_of_the_paper_and_the_most_of_a_sweep_counts():
    runs = [("rnn", 100, 0.5), ("rnn", 200, 1.0), ("rnn", 400, 0.75), ("lstm", 200, 0.89), ("gru", 200, 0.2)]
    results = pd.DataFrame(runs, columns=["model", capacity.GIVEN, "test/accuracy"])
    results = results.assign(run=list("abcde"), seed=0, parameters=100)
    tables = Tables(results, pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    assert list(capacity.stored(tables)["bits"]) == pytest.approx([0, 2, 4 * 0.18872, 1.00016, 0], abs=1e-4)
    assert dict(capacity.capacity(tables)) == pytest.approx({"b": 2, "d": 1.00016, "e": 0}, abs=1e-4)
    assert dict(capacity.compared(lambda bits: bits["rnn"] / bits["lstm"])(tables)) == pytest.approx({"b": 2}, abs=1e-3)
    some = tables._replace(results=results[results["model"] == "lstm"])
    assert not len(capacity.compared(lambda bits: bits["rnn"])(some))  # as in a report while a sweep goes on


def test_all_steps_are_read_as_the_source_reads_them(monkeypatch):
    ours = mnist1d.AllSteps(carousel.GRUCell, 1, 6, batch_first=True, bidirectional=True, steps=40)
    theirs, x = nn.GRU(1, 6, batch_first=True, bidirectional=True), torch.randn(3, 40, 1)
    theirs.load_state_dict(ours.state_dict())
    signals, digits = torch.randn(5000, 40, 1), torch.arange(5000) % 10
    monkeypatch.setattr(mnist1d, "made", lambda: (signals, digits))
    task = mnist1d.PublishedMNIST1D(shuffled=True)
    model = SequenceModel(ours, task)
    assert sum(p.numel() for p in model.parameters()) == 5134  # as the source's log has it
    torch.testing.assert_close(model(x)[0], model.head(theirs(x)[0].flatten(1)))
    train, test = task.recorded()["train"], task.recorded()["test"]
    assert (len(train.input), len(test.input)) == (4000, 1000)
    order = [int((signals[0] == value).nonzero()[0, 0]) for value in train.input[0, :, 0]]
    assert order[:6] == [19, 16, 15, 26, 4, 12]  # of NumPy's seed 42
    assert torch.equal(test.input, signals[4000:, order])


@pytest.mark.parametrize("memory", [True, False])
def test_windows_are_read_as_the_source_reads_them(memory):
    cell, norm, series = nn.LSTMCell(5, 4).double(), nn.LayerNorm(5).double(), torch.rand(12, dtype=torch.float64)
    ours = mackey_glass.Windowed(
        carousel.LSTMCell, 1, 4, window=5, memory=memory, batch_first=True, dtype=torch.float64, backend="eager"
    )
    ours.load_state_dict({f"{name}_l0": p for name, p in cell.state_dict().items()}
                         | {f"norm.{name}": p for name, p in norm.state_dict().items()})  # fmt: skip
    window, state, expected = torch.zeros(1, 5, dtype=torch.float64), None, []
    for x in series:
        window = torch.cat([window[:, 1:], x.view(1, 1)], 1)
        state = cell(norm(window), state if memory else None)
        expected.append(state[0].relu())
    begun, state = ours(series[None, :7, None])
    output = torch.cat([begun, ours(series[None, 7:, None], state)[0]], 1)
    torch.testing.assert_close(output[0], torch.cat(expected))


def test_alone_a_model_reads_its_own_forecasts():
    task = mackey_glass.FreeRun(part=1)
    x, series = task.series[:, 0], mackey_glass.mackey_glass(17, 235, begin=0.7206597)
    assert x[38].item() == pytest.approx(series[197].item(), rel=1e-6)  # the part begins at point 37, this is 75
    train, test = task.split("train"), task.split("test")
    assert torch.equal(train.target[0, :-1], train.input[0, 1:])
    assert test.target[0].isnan()[:, 0].tolist() == [True] * 750 + [False] * 750

    def doubles(x, lengths=None, state=None):
        return 2 * x[:, -1:], "state"

    module = SimpleNamespace(task=task, model=doubles, device="cpu")
    measured = {row.measure: row.value for row in mackey_glass.Alone().measure(None, module, None)}
    alone = x[750] * 2.0 ** torch.arange(1, 751, dtype=torch.float64)
    errors = (alone - x[751:]).abs() / (alone + x[751:])
    assert measured["smape"] == pytest.approx(200 * errors.mean().item())
    assert mackey_glass.smape(torch.tensor([1.0, 3.0]), torch.tensor([3.0, 3.0])) == 50
    assert mackey_glass.smape(torch.tensor([torch.nan]), torch.tensor([3.0])) == 200


def test_forecasts_are_judged_by_their_mean_over_the_parts(tmp_path):
    for part in (0, 5):
        for seed in range(2):
            make_run(tmp_path, "lstm", 10, seed, config={"task.part": part}, measures={"smape": (90, part + seed)})
    found = mackey_glass.mean_of_parts(tables := collect(tmp_path))
    assert list(found) == [2.5, 3.5]
    assert list(tables.results.set_index("run").loc[found.index, "seed"]) == [0, 1]


def test_two_of_all_places_are_marked_wherever_they_are():
    x, y, *_ = AddingAnywhere(5).sample(4000, generator())
    number, mark = x.unbind(-1)
    assert mark.sum(1).eq(2).all()
    torch.testing.assert_close(y[:, 0], (number * mark).sum(1))
    pairs = (mark.T @ mark / 4000).triu(1)  # how often both of two places are marked
    torch.testing.assert_close(pairs, torch.full((5, 5), 0.1).triu(1), atol=0.02, rtol=0)


class Counter(nn.Module):
    """Knows a^n b^n up to an n, and is certain."""

    def __init__(self, up_to):
        super().__init__()
        self.up_to, self.task, self.device = up_to, AnBn(), "cpu"

    def predict(self, batch):
        n = batch.lengths // 2
        right = torch.nn.functional.one_hot(batch.target.clamp(min=0), 3).float() * 20
        return torch.where((n > self.up_to)[:, None, None], right.roll(1, -1), right)


def test_accepted_is_said_where_it_changes():
    rows = counting.Accepted(9, num_sequences=4).measure(None, Counter(6), None)
    assert [(row.measure, row.value) for row in rows] == [
        ("accepted/1", 1), ("accepted/7", 0), ("accepted_up_to", 6), ("likely_up_to", 6)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="up_to must be an integer of at least 1, got 0"):
        counting.Accepted(0)


def test_the_sign_stands_wherever_a_symbol_is_to_be_said():
    task, plain = CopySigned(8, items=2), CopyMemory(8, items=2)
    (x, target, *_), (other, same, *_) = task.sample(20, generator()), plain.sample(20, generator())
    assert torch.equal(x[:, :-2], other[:, :-2])
    assert (x[:, -3:] == other[0, -3]).all()
    assert torch.equal(target, same)
    assert CopySigned(1020).baseline_loss == pytest.approx(0.02039, abs=5e-6)


def test_sums_follow_one_another_in_a_stream():
    task = jozefowicz_2015.ArithmeticStream(chunk=35, problems=50, digits=2, distractors=1, seed=3)
    x, target = task.series("train")
    batch = Arithmetic(2, 1).sample(50, data.generator(3, "train", 0))
    assert len(x) == int(batch.lengths.sum()) + 50
    assert text(x).count(".") == text(x).count("=") == 50
    start = 0
    for sequence, answer, length in zip(batch.input, batch.target, batch.lengths.tolist(), strict=True):
        assert text(x[start : start + length + 1]) == text(sequence[:length]) + "."
        assert torch.equal(target[start : start + length], answer[:length])
        assert target[start + length] == IGNORE
        start += length + 1
    assert not torch.equal(task.series("val")[0][:30], x[:30])


def test_gates_are_compared_seed_by_seed(tmp_path):
    for seed, accuracies in enumerate(((0.9, 0.3), (0.8, 0.5))):
        for size, config, accuracy in zip((64, 76), ({}, {"model.without": "forget_gate"}), accuracies, strict=True):
            config = {"model.hidden_size": size} | config
            make_run(tmp_path, "lstm", 10, seed, config=config, metrics={"test/accuracy": accuracy})
    tables = collect(tmp_path)
    found = jozefowicz_2015.lead(jozefowicz_2015.LSTM, jozefowicz_2015.NO_F)(tables)
    assert list(found) == pytest.approx([0.6, 0.3])
    runs = tables.results.set_index("run")
    assert set(runs.loc[found.index, "config.model.hidden_size"]) == {64}
    assert not len(jozefowicz_2015.lead(jozefowicz_2015.GRU, jozefowicz_2015.LSTM)(tables))


def test_chrono_is_compared_seed_by_seed(tmp_path):
    for seed, (one, two) in enumerate(((90, 30), (None, 50))):
        make_run(tmp_path, "lstm_forget1", 10, seed, val_loss=0.001 if one else 0.16, steps_to_solve=one)
        make_run(tmp_path, "lstm_chrono", 10, seed, val_loss=0.004, steps_to_solve=two)
    tables = collect(tmp_path)
    assert list(chrono.sooner(tables)) == [3, 2]  # who is not done counts with its 100 steps
    assert list(chrono.share_of_loss(tables)) == pytest.approx([4, 0.025])
    runs = tables.results.set_index("run")
    assert set(runs.loc[chrono.sooner(tables).index, "model"]) == {"lstm_chrono"}
