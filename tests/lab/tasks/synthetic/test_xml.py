"""Tags, each of which is closed."""

import re
from xml.etree import ElementTree

import pytest

from carousel.lab.tasks import XML
from carousel.lab.tasks.synthetic import xml

TAG = re.compile(r"<(/?)([a-z]+)>")


def tags(text):
    """Of each whole tag: whether it closes, its name, and the names that are open before it, the last one last."""
    still_open = []
    for closes, name in TAG.findall(text):
        yield bool(closes), name, list(still_open)
        if closes:
            still_open.pop()
        else:
            still_open.append(name)


def test_each_tag_that_is_closed_is_the_last_that_is_open():
    text = xml.written(20_000, letters=4, seed=0)
    assert len(text) == 20_000
    assert TAG.sub("", text).strip("</abcdefghijklmnopqrstuvwxyz") == ""  # one is cut off
    assert all(name == still_open[-1] for closes, name, still_open in tags(text) if closes)
    *_, (_, _, still_open) = tags(text + "<end>")
    whole = text[: text.rindex(">") + 1] + "".join(f"</{name}>" for name in reversed(still_open))
    ElementTree.fromstring(f"<all>{whole}</all>")
    lengths = [len(name) for closes, name, _ in tags(text) if not closes]
    assert all(lengths.count(n) / len(lengths) == pytest.approx(1 / 3, abs=0.04) for n in (2, 3, 4))
    closed = [closes for closes, _, still_open in tags(text) if still_open]
    assert 0.5 < sum(closed) / len(closed) < 0.58  # half of them, and after 50 steps all


def test_at_last_all_that_is_open_is_closed(monkeypatch):
    monkeypatch.setattr(xml, "STEPS", 1)
    rest = re.sub(r"<([a-z]+)></\1>", "", xml.written(1000, 10, seed=0))
    assert re.fullmatch(r"(<[a-z]*>?[</a-z]*)?", rest)
    assert len(rest) < 25  # the last of them is cut off


def test_the_next_character_is_asked_and_the_splits_are_in_order():
    task = XML(8, length=1000, letters=3)
    x, y = task.series("train")
    text = xml.written(1000, 3, seed=0)
    assert task.decode(x) == text[:899]
    assert task.decode(y) == text[1:900]
    assert task.decode(task.series("val")[0]) == text[900:949]
    assert task.decode(task.series("test")[1]) == text[951:]
    assert XML(8, length=1000, letters=3, seed=1).series("train")[0].tolist() != x.tolist()
    assert task.opening()[0] == "<"


def test_who_keeps_what_is_open_is_right_as_often_as_the_docstring_says():
    text = xml.written(200_000, 10, seed=0)
    right = sum(3 + len(name) if closes else 2 for closes, name, _ in tags(text))  # < and >, and of a closing tag all
    letters = sum(bool(still_open) + 1 for closes, _, still_open in tags(text) if not closes)  # that one can but guess
    assert (right + letters / 26) / len(text) == pytest.approx(0.65, abs=0.005)
    assert "0.65 of the characters" in xml.XML.__doc__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk must be an integer of at least 1, got 0"),
        ({"letters": 1}, "letters must be an integer of at least 2, got 1"),
        ({"length": 100}, "length must be an integer of at least 1000, got 100"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        XML(**{"chunk": 8} | options)
