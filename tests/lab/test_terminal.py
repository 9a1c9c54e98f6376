"""What the terminal shows of many runs."""

import io

from made_up import make_run
from rich.console import Console

from carousel.lab.records import collect
from carousel.lab.terminal import table


def test_the_table_fits_a_narrow_terminal_with_all_its_numbers(tmp_path):
    for length in (10, 20, 40, 80, 160):
        config = {"model.init.gain": 1.6, "optimizer.lr": 0.001, "trainer.max_steps": 2000}
        make_run(tmp_path, "rnn_orthogonal", length, val_loss=0.1234, config=config)
        make_run(tmp_path, "lstm", length, val_loss=0.001)
    console = Console(width=80, file=io.StringIO())
    console.print(table(collect(tmp_path).results))
    shown = console.file.getvalue()
    assert shown.count("✗ 0.123") == 5
    assert shown.count("100") == 5


def test_the_table_shows_huge_losses_and_bracketed_names_as_they_are(tmp_path):
    make_run(tmp_path, "rnn", 10, val_loss=5e19, config={"model.hidden_size": ["a", "b"]})
    make_run(tmp_path, "rnn", 10, config={"model.hidden_size": ["red"]})
    console = Console(width=80, file=io.StringIO())
    console.print(table(collect(tmp_path).results))
    assert "✗ 5e+19" in console.file.getvalue()
    assert "h=['red']" in console.file.getvalue()
