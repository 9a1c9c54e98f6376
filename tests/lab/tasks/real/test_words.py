"""Text by words: of a file, and of the Brown corpus's files."""

import pydoc_data.topics
from itertools import product

import pytest
import torch

from carousel.lab.data import SequenceData
from carousel.lab.module import scores
from carousel.lab.tasks import Words
from carousel.lab.tasks.real import words


@pytest.fixture
def file(tmp_path):
    def write(text, **options):
        path = tmp_path / "text.txt"
        path.write_text(text, encoding="utf-8")
        return Words(8, str(path), **options)

    return write


def test_the_docstrings_example(file):
    task = file("The jury praised the city.\n" * 20)
    x, y = task.series("train")
    assert task.decode(x[:5]) == "The jury praised the city"
    assert task.decode(y[:5]) == "jury praised the city ."
    assert task.vocabulary == ["<unk>", ".", "The", "city", "jury", "praised", "the"]
    assert [1 + len(task.series(split)[0]) for split in ("train", "val", "test")] == [108, 6, 6]


def test_what_is_a_word():
    assert Words.tokenize(None, 'It\'s over-all well, isn’t it? "Ça" 3.5\n\n-- end') == (
        ["It's", "over-all", "well", ",", "isn’t", "it", "?", '"', "Ça", '"', "3", ".", "5", "-", "-", "end"]
    )


def test_words_that_training_has_seldom_are_one_symbol_with_those_that_it_has_not(file):
    text = " ".join(["a"] * 80 + ["b"] * 4 + ["c"] * 3 + ["d"] + ["a", "b"] + ["e"] * 10)  # 100: d and before in 90
    assert file(text).vocabulary == ["<unk>", "a", "b"]
    assert file(text, rare=2).vocabulary == ["<unk>", "a", "b", "c"]
    task = file(text, rare=0)
    assert task.vocabulary == ["<unk>", "a", "b", "c", "d"]
    assert task.decode(task.series("test")[1]) == " ".join(["<unk>"] * 4)
    with pytest.raises(ValueError, match="rare must be an integer of at least 0, got -1"):
        file(text, rare=-1)


def test_perplexity_by_hand(file):
    task = file("a b " * 50)
    perplexity = task.metrics()["perplexity"]
    for probabilities, target in (([0.25, 0.5, 0.25], 1), ([0.5, 0.25, 0.25], 2), ([0.5, 0.25, 0.25], 1)):
        perplexity.update(torch.tensor([probabilities]).log(), torch.tensor([target]))
    assert perplexity.compute() == pytest.approx((2 * 4 * 4) ** (1 / 3))


def test_a_trigram_knows_more_than_a_unigram(file):
    task = file("one two three four five six seven .\n" * 60)
    data = SequenceData(task, 2)
    found = {name: scores(task, predict, data.test_dataloader()) for name, predict in task.baselines().items()}
    assert found["unigram"]["perplexity"] == pytest.approx(8, rel=0.05)
    assert found["trigram"]["perplexity"] < 1.3


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A corpus of 500 files, of four words each."""
    monkeypatch.setattr(words, "ENDS", (1600, 1900))
    for k, (letter, number) in enumerate(product("abcdefghjk", range(1, 51))):
        text = f"\n\n\tThe/at jury/nn 1/2/cd w{k}/nn-tl\n\n"
        (tmp_path / f"c{letter}{number:02}").write_text(text)
    (tmp_path / "README").write_text("no words")
    return tmp_path


def test_the_brown_corpus_is_read_file_by_file_without_its_tags(corpus):
    task = Words(8, str(corpus))
    assert [1 + len(task.series(split)[0]) for split in ("train", "val", "test")] == [1600, 300, 100]
    assert task.vocabulary == ["<unk>", "1/2", "The", "jury"]
    assert task._splits["train"][:5] == ["The", "jury", "1/2", "w0", "The"]
    assert task._splits["test"][-1] == "w499"


def test_what_is_no_brown_corpus_is_refused_by_name(corpus, monkeypatch):
    (corpus / "ca02").write_text("The/at jury said/vbd")
    with pytest.raises(ValueError, match="ca02 is no file of the Brown corpus: 'jury' is no word/tag"):
        SequenceData(Words(8, str(corpus)), 2)
    (corpus / "ca02").write_text("The/at")
    monkeypatch.setattr(words, "ENDS", (1600, 1996))
    with pytest.raises(ValueError, match="has 1997 words; the Brown corpus has 1,161,192"):
        SequenceData(Words(8, str(corpus)), 2)
    (corpus / "ca02").unlink()
    with pytest.raises(ValueError, match="has 499 of the Brown corpus's 500 files, ca01 to cr09"):
        SequenceData(Words(8, str(corpus)), 2)


def test_without_a_path_the_words_are_those_of_the_topics(monkeypatch):
    pages = {"b": "The jury praised the city. " * 10, "a": "If the"}
    monkeypatch.setattr(pydoc_data.topics, "topics", pages)
    task = Words(8)
    with pytest.warns(UserWarning, match="scores on them are not comparable"):
        x, _ = task.series("train")
    assert task._splits["train"][:6] == ["If", "the", "The", "jury", "praised", "the"]
    assert task.decode(x[:4]) == "<unk> the The jury"  # "If" is rare
