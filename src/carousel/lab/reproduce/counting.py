"""Which n of a^n b^n and of a^n b^n c^n the LSTM and the GRU accept, up to ten times those of training."""

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import figures
from ..callbacks import Probe, Row
from ..module import SequenceModule
from ..records import Tables
from ..style import named, styles
from ..tasks import AnBn, Batch, real
from .claim import Claim, at_least, at_most, probed

PAPER = "Weiss, Goldberg & Yahav 2018"
LETTERS = "config.task.letters"
LIKELY = 0.01
"""Under this probability of a symbol that comes, a word is rejected: `reject_threshold` of the authors' code."""


class Accepted(Probe):
    """For every n up to one, whether the task's word is accepted: `accepted/N`, 1 or 0, for the first n and for each
    where it changes. And the largest n up to which all are: `accepted_up_to`, and `likely_up_to` by the rule of Weiss
    et al., by which every symbol that n decides needs a probability of 0.01, in place of the largest.

    Args:
        up_to: the largest n.
        num_sequences: words read at once.

    Raises:
        ValueError: `up_to` is under 1, or as for any probe.
    """

    def __init__(self, up_to: int, every_n_steps: int | None = None, num_sequences: int = 50) -> None:
        super().__init__(every_n_steps, num_sequences)
        if type(up_to) is not int or up_to < 1:
            raise ValueError(f"up_to must be an integer of at least 1, got {up_to}")
        self.up_to = up_to

    def measure(self, trainer, module: SequenceModule, batch: Batch) -> list[Row]:
        if not isinstance(module.task, AnBn):
            raise TypeError("callbacks.accepted needs task=anbn")
        ns = torch.arange(1, self.up_to + 1, device=module.device)
        read = [self._read(module, module.task, some) for some in ns.split(self.num_sequences)]
        accepted, likely = (torch.cat(parts) for parts in zip(*read, strict=True))  # (up_to,) each
        changes = [k for k in range(self.up_to) if k == 0 or accepted[k] != accepted[k - 1]]
        rows = [Row(f"accepted/{k + 1}", 0, "forward", "", float(accepted[k])) for k in changes]
        rows += [Row(f"{name}_up_to", 0, "forward", "", float(all_before(right).sum()))
                 for name, right in (("accepted", accepted), ("likely", likely))]  # fmt: skip
        return rows

    @torch.no_grad()
    def _read(self, module: SequenceModule, task: AnBn, ns: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each word is accepted, by the largest probabilities and by those over the threshold."""
        words = task.sequences(ns)
        prediction, target = real(task, words, module.predict(words))
        shares = prediction.softmax(-1).gather(1, target[:, None])[:, 0]
        word = (target == task.letters).cumsum(0) - (target == task.letters).long()
        unlikely = shares.new_zeros(len(ns)).index_add(0, word, (shares <= LIKELY).to(shares.dtype))
        return task.accepted(prediction, target), unlikely == 0


def all_before(right: Tensor) -> Tensor:
    """Whether this one and all before are right."""
    return right.long().cumprod(0)


def largest(tables: Tables) -> pd.Series:
    """The largest n that is accepted."""
    found = curves(tables)
    return found["n"].where(found["accepted"] == 1).groupby(found["run"]).max().fillna(0)


def claims(letters: int, word: str, n: int, trained: int) -> list[Claim]:
    source = f"{PAPER}, the notebook of the authors' repository"
    lstm, gru = ({LETTERS: letters, "model": model} for model in ("lstm", "gru"))
    by_threshold = "The largest n up to which every symbol that n decides has a probability over 0.01, as in the paper."
    by_rank = "The largest n of which every symbol that n decides is the likeliest, a stricter rule than the paper's."
    set_up = f"Learnt from n of 1 to {trained}, 10 words a training step, in the paper one."
    return [
        Claim(f"LSTM accepts {word}, n = {n}", "accepted", source, lstm, probed("likely_up_to"), at_least(n),
              f"{by_threshold} {set_up}"),
        Claim(f"LSTM accepts {word}, n = {n}", "accepted", source, lstm, largest, at_least(n), by_rank),
        Claim(f"GRU rejects {word}, n = {n}", "rejected", source, gru, probed("likely_up_to"), at_most(n - 1),
              by_threshold),
        Claim(f"GRU rejects {word}, n = {n}", "rejected", source, gru, largest, at_most(n - 1), by_rank),
    ]  # fmt: skip


CLAIMS = [*claims(2, "a^n b^n", 1000, 99), *claims(3, "a^n b^n c^n", 100, 49)]


def curves(tables: Tables) -> pd.DataFrame:
    """run, n, accepted: after training, for every n."""
    rows = tables.measurements
    rows = rows[rows["measure"].str.startswith("accepted/")]
    rows = rows[rows["step"] == rows.groupby("run")["step"].transform("max")]
    rows = rows.assign(n=rows["measure"].str.partition("/")[2].astype(int))
    last = tables.results["config.callbacks.accepted.up_to"].astype(int).max()
    wide = rows.pivot_table(index="n", columns="run", values="value").reindex(range(1, last + 1)).ffill()
    return wide.melt(ignore_index=False, var_name="run", value_name="accepted").reset_index()


def figure(tables: Tables) -> Figure:
    """The share of the seeds that accept each n."""
    found = curves(tables).merge(tables.results[["run", "model", LETTERS, "config.task.n_max"]], on="run")
    style = styles(found["model"])
    languages = sorted(found[LETTERS].unique())
    drawn = Figure(figsize=(4.8 * len(languages) + 0.6, 3.8), layout="constrained")
    axes = drawn.subplots(1, len(languages), squeeze=False, sharey=True)[0]
    for ax, letters in zip(axes, languages, strict=True):
        own = found[found[LETTERS] == letters]
        for model, runs in own.groupby("model"):
            look = {k: v for k, v in style[model].items() if k != "marker"}
            ax.plot(runs.groupby("n")["accepted"].mean(), label=named(model), drawstyle="steps-mid", **look)
        ax.axvline(own["config.task.n_max"].max(), color="gray", linestyle=":", label="longest in training")
        ax.set(xscale="log", xlabel="n", title=" ".join(f"{letter}^n" for letter in "abc"[: int(letters)]))
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("share of seeds that accept it")
    figures.legend(drawn, axes)
    return drawn
