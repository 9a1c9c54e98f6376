"""Three public ways to use a recurrent layer, as people write them. Torch's module and ours train to the same loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import carousel

pytestmark = pytest.mark.usefixtures("float64")


class Tagger(nn.Module):
    """Bidirectional, on packed sequences of words."""

    def __init__(self, library, words, tags):
        super().__init__()
        self.embed = nn.Embedding(words, 8)
        self.lstm = library.LSTM(8, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.tag = nn.Linear(32, tags)

    def forward(self, sentences, lengths):
        packed = pack_padded_sequence(self.embed(sentences), lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.tag(output)


def train_tagger(library):
    """A word's tag is whether the words beside it are the same: it takes both directions to tell."""
    torch.manual_seed(0)
    model = Tagger(library, 5, 2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    data = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(120):
        words = torch.randint(5, (32, 9), generator=data)
        lengths = torch.randint(3, 10, (32,), generator=data)
        lengths[0] = 9
        beside = F.pad(words, (1, 1), value=-1)
        inside = torch.arange(9) < lengths[:, None]
        after = torch.where(torch.arange(1, 10) < lengths[:, None], beside[:, 2:], -1)
        tags = (beside[:, :-2] == after).long()
        loss = F.cross_entropy(model(words, lengths)[inside], tags[inside])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class Translator(nn.Module):
    """An encoder whose state starts the decoder."""

    def __init__(self, library, symbols):
        super().__init__()
        self.embed = nn.Embedding(symbols + 1, 16)
        self.encoder = library.GRU(16, 32, num_layers=2)
        self.decoder = library.GRU(16, 32, num_layers=2)
        self.readout = nn.Linear(32, symbols)

    def forward(self, source, target):
        _, state = self.encoder(self.embed(source))
        begin = torch.full_like(target[:1], self.embed.num_embeddings - 1)
        output, _ = self.decoder(self.embed(torch.cat([begin, target[:-1]])), state)
        return self.readout(output)


def train_translator(library):
    """The target is the source backwards."""
    torch.manual_seed(0)
    model = Translator(library, 6)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    data = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(200):
        source = torch.randint(6, (4, 32), generator=data)
        target = source.flip(0)
        loss = F.cross_entropy(model(source, target).flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class Policy(nn.Module):
    """Steps a cell through an environment whose episodes end at different times."""

    def __init__(self, library):
        super().__init__()
        self.cell = library.LSTMCell(3, 16)
        self.act = nn.Linear(16, 2)

    def forward(self, observation, begins, state):
        if state is not None:
            state = tuple(s.masked_fill(begins[:, None], 0.0) for s in state)
        state = self.cell(observation, state)
        return self.act(state[0]), state


def corridor(num, steps, generator):
    """Episodes of 3 to 5 steps, one after another: a cue is shown at the start, and asked for at the end."""
    observations, begins, cues = torch.zeros(steps, num, 3), torch.zeros(steps, num, dtype=torch.bool), []
    asked = torch.zeros(steps, num, dtype=torch.bool)
    left, cue = torch.zeros(num, dtype=torch.long), torch.zeros(num, dtype=torch.long)
    for t in range(steps):
        begins[t] = left == 0
        left = torch.where(begins[t], torch.randint(3, 6, (num,), generator=generator), left)
        cue = torch.where(begins[t], torch.randint(2, (num,), generator=generator), cue)
        observations[t, begins[t]] = F.one_hot(cue[begins[t]], 3).to(observations)
        left = left - 1
        asked[t] = left == 0
        observations[t, asked[t], 2] = 1
        cues.append(cue)
    return observations, begins, asked, torch.stack(cues)


def train_policy(library):
    torch.manual_seed(0)
    model = Policy(library)
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    data = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(100):
        observations, begins, asked, cues = corridor(16, 20, data)
        state, rewards = None, []
        for observation, new, question, cue in zip(observations, begins, asked, cues, strict=True):
            action, state = model(observation, new, state)
            rewards.append(action.softmax(-1).gather(1, cue[:, None])[question, 0])  # the chance to be right
        loss = -torch.cat(rewards).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize(("train", "first", "last"), [(train_tagger, 0.5, 0.4), (train_translator, 1.7, 0.4)])
def test_a_tagger_and_an_encoder_decoder(train, first, last):
    ours, theirs = train(carousel), train(nn)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours[0] > first
    assert ours[-1] < last


def test_a_policy_that_steps_a_cell_with_resets():
    (model, ours), (_, theirs) = train_policy(carousel), train_policy(nn)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours[0] > -0.6
    assert ours[-1] < -0.95
    # The whole rollout at once, with a reset mask, is what the steps were.
    observations, begins, _, _ = corridor(4, 20, torch.Generator().manual_seed(2))
    layer = carousel.LSTM(3, 16)
    layer.load_state_dict({f"{name}_l0": tensor for name, tensor in model.cell.state_dict().items()})
    state, actions = None, []
    for observation, new in zip(observations, begins, strict=True):
        action, state = model(observation, new, state)
        actions.append(action)
    torch.testing.assert_close(model.act(layer(observations, reset=begins)[0]), torch.stack(actions))
