"""Text by characters: split in order, read off training alone, and continued."""

import hashlib
import math
import pydoc_data.topics
import warnings
from functools import partial

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import carousel
from carousel.lab.data import SequenceData
from carousel.lab.generate import continued
from carousel.lab.model import SequenceModel
from carousel.lab.module import SequenceModule, scores
from carousel.lab.tasks import Batch, Characters
from carousel.lab.tasks.real import text as texts


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "text.txt"
        path.write_text(text, encoding="utf-8")
        return Characters(8, str(path))

    return write


def test_the_docstrings_example(file):
    task = file("If the\n" * 10 + "xyz")
    x, y = task.series("train")
    assert task.decode(x[:5]) == "If th"
    assert task.decode(y[:5]) == "f the"
    assert "".join(task.vocabulary[1:]) == "\n Iefht"
    assert task.input_size == task.output_size == 8


@settings(max_examples=30, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=40, max_size=300))
def test_the_splits_are_the_text_in_order_and_the_alphabet_is_trainings(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(text.encode())
    text = text.removeprefix("\ufeff")
    if len(text) < 40:
        return
    task = Characters(8, str(path))
    parts = []
    for split in ("train", "val", "test"):
        x, y = task.series(split)
        torch.testing.assert_close(x[1:], y[:-1])
        parts.append(torch.cat([x[:1], y]))
    ends = len(text) * 90 // 100, len(text) * 95 // 100
    assert [len(part) for part in parts] == [ends[0], ends[1] - ends[0], len(text) - ends[1]]
    training = set(text[: ends[0]])
    assert set(task.vocabulary[1:]) == training
    expected = "".join(c if c in training else "\N{REPLACEMENT CHARACTER}" for c in text)
    assert task.decode(torch.cat(parts)) == expected
    assert task.input_size == 1 + len(training)


def test_bits_per_character_and_accuracy_by_hand(file):
    task = file("ab" * 50)
    logits = torch.tensor([[0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]).log()
    metrics = task.metrics()
    for part in (slice(0, 1), slice(1, 3)):  # batches of different sizes count by their steps
        for metric in metrics.values():
            metric.update(logits[part], torch.tensor([1, 0, 2])[part])
    assert metrics["bits_per_character"].compute() == pytest.approx((1 + 2 + 2) / 3)
    assert metrics["accuracy"].compute() == pytest.approx(1 / 3)


def test_the_unigram_counts_training_plus_one(file):
    task = file("aab" * 30 + "bbbbbbbbbb")
    (name, predict), (second, _) = task.baselines().items()
    assert (name, second) == ("unigram", "trigram")
    batch = Batch(torch.tensor([[1, 2]]), torch.tensor([[2, 1]]))
    expected = torch.tensor([1, 61, 31]) / 93
    torch.testing.assert_close(predict(batch).exp(), expected.expand(1, 2, 3))


def topics_are_pinned():
    parts = pydoc_data.topics.topics
    text = "\n".join(parts[name] for name in sorted(parts))
    return hashlib.sha256(text.encode()).hexdigest() == texts.PINNED[1]


def test_other_topics_than_those_of_the_scores_are_said_in_one_line(monkeypatch):
    monkeypatch.setattr(pydoc_data.topics, "topics", {"b": "y" * 50, "a": "x" * 50})
    with pytest.warns(UserWarning, match="scores on them are not comparable") as said:
        found = texts.topics()
    assert found == "x" * 50 + "\n" + "y" * 50
    assert len(said) == 1
    assert "\n" not in str(said[0].message)


@pytest.mark.skipif(not topics_are_pinned(), reason="another Python has other topics")
def test_the_topics_and_what_the_baselines_score_on_them():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = Characters(64)
        assert [len(task.series(split)[0]) for split in ("train", "val", "test")] == [418542, 23251, 23252]
    assert task.input_size == 104
    data = SequenceData(task, 32)
    found = {name: scores(task, predict, data.test_dataloader()) for name, predict in task.baselines().items()}
    assert found["unigram"]["bits_per_character"] == pytest.approx(4.6001, abs=1e-4)
    assert found["trigram"]["bits_per_character"] == pytest.approx(2.3700, abs=1e-3)
    assert found["trigram"]["loss"] / math.log(2) == pytest.approx(2.3700, abs=1e-3)
    assert found["unigram"]["accuracy"] == pytest.approx(0.2538, abs=1e-4)
    assert found["trigram"]["accuracy"] == pytest.approx(0.5315, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "text.txt does not exist"),
        (b"\xff\xfe" + "If the".encode("utf-16-le") * 20, "text.txt is not UTF-8 text: byte 0 is 0xff"),
        (b"\x7fELF\0" * 20, "text.txt is not text: it has null bytes"),
        (b"short", "text.txt is too short: 40 symbols are the least, it has 5"),
        (b"", "text.txt is too short: 40 symbols are the least, it has 0"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, content, line):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"task\.path: .*text\.txt") as error:
        SequenceData(Characters(8, str(path)), 2)
    assert str(error.value).endswith(line)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="is no file of text"):
        SequenceData(Characters(8, str(tmp_path)), 2)


def test_marks_of_windows_are_read_as_what_they_mean(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"ab\r\n" * 20)
    assert Characters(8, str(path)).vocabulary[1:] == ["\n", "a", "b"]


class Losses(L.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.seen.append(outputs["loss"].item())


def train(layer_type, task, steps=100):
    L.seed_everything(0, verbose=False)
    layer = layer_type(task.input_size, 12, batch_first=True, dtype=torch.float64)
    module = SequenceModule(SequenceModel(layer, task), task, partial(torch.optim.Adam, lr=1e-2))
    losses = Losses()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        callbacks=[losses],
        gradient_clip_val=1.0,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, SequenceData(task, 4))
    return module, losses.seen


@pytest.fixture(scope="module")
def text():
    return "\n".join(pydoc_data.topics.topics[name] for name in ("if", "while", "for", "try", "with"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text)
    return {cls: train(cls, Characters(16, str(path))) for cls in (carousel.LSTM, nn.LSTM)}


def test_ours_and_torchs_reach_the_same_loss_from_the_same_seed(trained):
    (_, ours), (_, theirs) = trained.values()
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert round(ours[-1], 5) == round(theirs[-1], 5)
    assert ours[-1] < 0.8 * ours[0]


def test_a_text_is_continued_as_if_it_were_read_in_one_piece(trained, text):
    """Of what is drawn at temperature 0, each symbol is the likeliest one after all before it."""
    for module, _ in trained.values():
        prompt = text[:30]
        more = continued(module, prompt, length=20, temperature=0)
        whole = module.task.encode(prompt + more)
        with torch.no_grad():
            scores = module(whole[None])[0]
        scores[:, 0] = -torch.inf
        assert module.task.decode(scores[29:-1].argmax(-1)) == more
    ours, theirs = (continued(module, "The ", 40, 1.0, seed=3) for module, _ in trained.values())
    assert ours == theirs


def test_seed_and_temperature_of_what_is_continued(trained):
    module, _ = trained[carousel.LSTM]
    a, b, c = (continued(module, "The ", 60, 1.0, seed=seed) for seed in (0, 0, 1))
    assert a == b != c
    assert len(a) == 60
    assert continued(module, "The ", 60, 1e-9) == continued(module, "The ", 60, 0, seed=1)
    assert len(set(continued(module, "The ", 300, 50.0))) > len(set(continued(module, "The ", 300, 0.3)))
    with pytest.warns(UserWarning, match="read as unknown: ☃"):
        assert module.task.unknown not in continued(module, "☃", 300, 50.0)
    assert continued(module, "The ", 0) == ""
    module.train()
    continued(module, "The ", 3)
    assert module.training
    module.eval()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"prompt": ""}, "the prompt must have a symbol at least"),
        ({"temperature": -1.0}, "temperature must be at least 0, got -1.0"),
        ({"temperature": math.nan}, "temperature must be at least 0, got nan"),
        ({"length": -1}, "length must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_continued(trained, arguments, line):
    with pytest.raises(ValueError, match=line):
        continued(trained[nn.LSTM][0], **({"prompt": "The "} | arguments))


@pytest.mark.filterwarnings("ignore:not in the text that it was trained on")  # the text of the test split
def test_examples_begin_where_a_paragraph_does_and_stand_beside_the_trigrams(trained, text):
    module, _ = trained[carousel.LSTM]
    (shown,) = module.task.examples(module.predictor()).values()
    prompt = module.task.opening()
    assert f"\n\n{prompt}" in text
    for name in ("temperature 0.5", "temperature 0.8", "temperature 1.0", "trigram"):
        assert f"--- {name}: after {prompt!r}\n{prompt}" in shown
    assert prompt + continued(module, prompt, 400, 0.8) in shown
