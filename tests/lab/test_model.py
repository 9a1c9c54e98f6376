"""The model around a layer: what it encodes, where it reads out, and that padding has no part in it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import carousel
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule, scores
from carousel.lab.tasks import IGNORE, Adding, Batch, Classification, Generated, Regression, always, real


class Symbols(Generated, Classification):
    input_size, output_size, symbols = 5, 3, True


class EveryStep(Symbols):
    every_step = True


class Numbers(Generated, Regression):
    input_size, output_size, every_step = 2, 2, True


LAYERS = [carousel.LSTM, nn.LSTM, carousel.GRU, nn.RNN]
ours_and_torchs = pytest.mark.parametrize("layer_type", LAYERS)
both_ways = pytest.mark.parametrize("bidirectional", [False, True])


def batch(task, lengths, more, fill, seed=0):
    """The same sequences, with `more` steps of padding that hold `fill`."""
    generator = torch.Generator().manual_seed(seed)
    steps = max(lengths)
    if task.symbols:
        x = torch.randint(5, (len(lengths), steps), generator=generator)
    else:
        x = torch.randn(len(lengths), steps, 2, generator=generator, dtype=torch.float64)
    if task.output_size == 2:
        target = torch.randn(len(lengths), steps, 2, generator=generator, dtype=torch.float64)
    else:
        target = torch.randint(3, (len(lengths), steps) if task.every_step else (len(lengths),), generator=generator)
    wide = [torch.cat([t, t.new_zeros(len(t), more, *t.shape[2:])], 1) if t.dim() > 1 else t for t in (x, target)]
    lengths = torch.tensor(lengths)
    padding = torch.arange(steps + more) >= lengths[:, None]
    wide[0][padding] = fill if task.symbols else float(fill)
    if task.every_step:
        wide[1][padding] = 1
    return Batch(*wide, lengths)


@ours_and_torchs
@both_ways
@pytest.mark.parametrize("task", [Symbols(), EveryStep(), Numbers()])
@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    more=st.integers(0, 5),
    fill=st.sampled_from([0, 77, -3, math.nan, math.inf]),
)
def test_padding_of_any_kind_and_amount_changes_nothing(layer_type, bidirectional, task, lengths, more, fill):
    if task.symbols and not math.isfinite(fill):
        fill = 10**6
    torch.manual_seed(0)
    layer = layer_type(task.input_size, 4, 2, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    module = SequenceModule(SequenceModel(layer, task), task)
    found = []
    for padded in (batch(task, lengths, 0, 0), batch(task, lengths, more, fill)):
        module.zero_grad()
        loss = module.loss(padded)
        loss.backward()
        known = scores(task, module.predict, [padded])
        found.append([loss, *(p.grad.clone() for p in module.parameters()), *map(torch.tensor, known.values())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@both_ways
def test_each_sequence_alone_gives_what_it_gives_among_padded_ones(bidirectional):
    torch.manual_seed(0)
    task = Symbols()
    layer = carousel.LSTM(5, 4, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    model = SequenceModel(layer, task)
    padded = batch(task, [6, 2, 4], 3, 77)
    together, _ = model(padded.input, padded.lengths)
    for k, n in enumerate(padded.lengths):
        alone, _ = model(padded.input[k : k + 1, :n])
        torch.testing.assert_close(together[k : k + 1], alone)


def test_the_state_that_is_handed_on_makes_two_chunks_one_sequence():
    torch.manual_seed(0)
    model = SequenceModel(carousel.LSTM(5, 4, batch_first=True), EveryStep())
    x = torch.randint(5, (3, 9))
    whole, _ = model(x)
    first, state = model(x[:, :4])
    second, _ = model(x[:, 4:], state=state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)


def test_an_embedding_may_be_tied_to_the_head():
    class Next(EveryStep):
        output_size = 5

    torch.manual_seed(0)
    layer = carousel.GRU(4, 4, batch_first=True)
    model = SequenceModel(layer, Next(), embedding_size=4, tied=True)
    assert model.head.weight is model.encoder.weight
    assert len(list(model.parameters())) == len(list(layer.parameters())) + 2  # the weight, once, and the head's bias
    with pytest.raises(ValueError, match=r"head.tied needs an embedding of the head's shape \(5, 4\), got \(5, 3\)"):
        SequenceModel(carousel.GRU(3, 4, batch_first=True), Next(), embedding_size=3, tied=True)
    with pytest.raises(ValueError, match=r"head.tied needs an embedding"):
        SequenceModel(carousel.GRU(5, 4, batch_first=True), Next(), tied=True)


def test_dropout_is_for_training_alone():
    torch.manual_seed(0)
    model = SequenceModel(carousel.GRU(5, 4, batch_first=True), EveryStep(), encoder_dropout=0.5, head_dropout=0.5)
    x = torch.randint(5, (3, 9))
    assert not torch.equal(model(x)[0], model(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])


def test_a_layer_that_would_read_the_targets_is_refused():
    class Next(EveryStep):
        looks_ahead = True

    with pytest.raises(ValueError, match=r"model.bidirectional must be false"):
        SequenceModel(carousel.GRU(5, 4, batch_first=True, bidirectional=True), Next())


def test_steps_without_a_target_are_not_scored():
    task = EveryStep()
    prediction = torch.tensor([[[0.0, 0, 9], [9, 0, 0], [0, 9, 0]]])
    target = torch.tensor([[2, IGNORE, 0]])
    x = torch.zeros(1, 3, dtype=torch.long)
    kept, of = real(task, Batch(x, target), prediction)
    assert of.tolist() == [2, 0]
    assert kept.argmax(-1).tolist() == [2, 1]
    assert scores(task, lambda _: prediction, [Batch(x, target)])["accuracy"] == 0.5
    assert scores(task, lambda _: prediction, [Batch(x, target, torch.tensor([1]))])["accuracy"] == 1.0


def test_scores_weigh_every_target_alike_whatever_the_batches():
    task = Adding(4)
    x, y, *_ = task.sample(10, torch.Generator().manual_seed(0))
    answer = always(task, torch.tensor([0.7]))
    whole = scores(task, answer, [Batch(x, y)])
    parts = scores(task, answer, [Batch(x[:9], y[:9]), Batch(x[9:], y[9:])])
    assert whole == pytest.approx(parts)
    assert whole["loss"] == pytest.approx(float((y - 0.7).square().mean()))
