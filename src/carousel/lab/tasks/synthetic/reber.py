"""The embedded Reber grammar."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from ..task import IGNORE, Batch, Generated, Predictor, Share

SYMBOLS = "BTSXPVE"
INNER = ("B1", "T2P3", "S2X4", "T3V5", "X3S6", "P4V6", "E7")
"""Reber's grammar: for each node its arcs, symbol and next node, all from one equally likely. Node 7 is the end."""
LAST = 18


def embedded() -> tuple[Tensor, Tensor]:
    """The symbols, (nodes, 2), and the next nodes, (nodes, 2), of the two arcs from each node; of one arc twice.

    From node 0 with B to 1; with T to the inner grammar at nodes 2 to 9, or with P to its double at 10 to 17; from its
    end, with T or P again, to 18; and with E back to 0.
    """
    nodes = [[("B", 1)], [("T", 2), ("P", 10)]]
    for first, outer in ((2, "T"), (10, "P")):
        nodes += [[(s, first + int(k)) for s, k in zip(arcs[::2], arcs[1::2], strict=True)] for arcs in INNER]
        nodes += [[(outer, LAST)]]
    nodes += [[("E", 0)]]
    arcs = [[(SYMBOLS.index(symbol), node) for symbol, node in (2 * arcs)[:2]] for arcs in nodes]
    symbols, nodes = torch.tensor(arcs).unbind(-1)
    return symbols, nodes


SYMBOL, NEXT = embedded()
LEGAL = F.one_hot(SYMBOL, len(SYMBOLS)).amax(1)  # (nodes, 7)
CLOSING = (9, 17)


@dataclass(frozen=True)
class Reber(Generated):
    """Predict the next symbol of embedded Reber strings (Hochreiter & Schmidhuber 1997, section 5.1).

    A string of Reber's grammar, such as BTXSE, stands between T and T or P and P, in B and E. All but the T or P
    before the last E follows from the last few symbols; that is the second symbol again.

        input   B P B T X S E P
        target  P B T X S E P E      legal  TP B TP SX SX E P E

    With `continual` sequences have so many steps, and go on after the E with the next string, a B, without a sign or
    a reset (Gers, Schmidhuber & Cummins 2000).

    Targets, (num, T, 8), are the next symbol, and of each of the seven, B T S X P V E, whether it is legal. The loss
    is the cross-entropy over the least that is possible, the log of how many are legal, all of which are equally
    likely. Who knows the grammar and has forgotten the second symbol loses log 2 in each string, of 11 targets in the
    mean: chance is log(2) / 11.

    Args:
        continual: steps of a sequence; None: a sequence is a string, of 8 steps or more.

    Raises:
        ValueError: `continual` is no integer, or under 9.
    """

    continual: int | None = None
    input_size = 7
    output_size = 7
    symbols = True
    every_step = True
    looks_ahead = True

    def __post_init__(self) -> None:
        if self.continual is not None and (type(self.continual) is not int or self.continual < 9):
            raise ValueError(f"continual must be null or an integer of at least 9, got {self.continual}")

    @property
    def baseline_loss(self) -> float:
        if self.continual is None:
            return math.log(2) / 11
        at, closings = F.one_hot(torch.tensor(0), len(NEXT)).double(), 0.0  # how likely each node is
        moves = F.one_hot(NEXT, len(NEXT)).double().mean(1)  # (from, to)
        for _ in range(self.continual):
            at = at @ moves
            closings += float(at[[*CLOSING]].sum())
        return math.log(2) * closings / self.continual

    def sample(self, num: int, generator: torch.Generator) -> Batch:
        node = torch.zeros(num, dtype=torch.long)
        nodes, symbols = [], []
        done = torch.full((num,), self.continual is not None)
        while len(nodes) <= (self.continual or 0) or not done.all():
            arc = torch.randint(2, (num,), generator=generator)
            nodes.append(node)
            symbols.append(SYMBOL[node, arc])
            done = done | (node == LAST)
            node = NEXT[node, arc]
        node, symbol = torch.stack(nodes, 1), torch.stack(symbols, 1)  # (num, T + 1)
        x, target = symbol[:, :-1], torch.cat([symbol[:, 1:, None], LEGAL[node[:, 1:]]], -1)
        if self.continual:
            return Batch(x, target)
        lengths = (node == LAST).int().argmax(1)
        padding = torch.arange(x.size(1)) >= lengths[:, None]
        return Batch(x.masked_fill(padding, 0), target.masked_fill(padding[..., None], IGNORE), lengths)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        least = target[:, 1:].sum(1).to(prediction.dtype).log().mean()
        return F.cross_entropy(prediction, target[:, 0]) - least

    def metrics(self) -> dict[str, Metric]:
        """Shares of the steps where the likeliest symbol is legal, and where those that are legal are the likeliest;
        and of the strings whose second symbol comes again."""
        return {"legal": Share(legal), "all_legal": Share(all_legal), "closed": Share(closed)}

    def baselines(self) -> dict[str, Predictor]:
        """The grammar without the second symbol, and the last symbol alone."""

        def forgetful(batch: Batch) -> Tensor:
            legal = batch.target[..., 1:] > 0
            closing = closes(batch.target.flatten(0, 1)).view(legal.shape[:2])
            either = torch.tensor([symbol in "TP" for symbol in SYMBOLS], device=legal.device)
            return torch.where(legal | (closing[..., None] & either), 0.0, -100.0)

        x, target, *_ = self.sample(1000, torch.Generator().manual_seed(0))
        mask = target[..., 0] != IGNORE
        counts = torch.zeros(7, 7).index_put((x[mask], target[..., 0][mask]), torch.tensor(1.0), accumulate=True)
        table = (counts / counts.sum(1, keepdim=True)).clamp(min=1e-9).log()
        return {
            "all but the second symbol": forgetful,
            "the last symbol alone": lambda batch: table.to(batch.input.device)[batch.input],
        }

    def examples(self, predict: Predictor) -> dict[str, str]:
        """A string, and after each of its symbols as many as are legal of those that are taken for the likeliest."""
        batch = Reber().sample(1, torch.Generator().manual_seed(0))
        order = predict(batch)[0].cpu().argsort(descending=True)
        rows = (("symbol", "legal", "likeliest"), ("---", "---", "---"))
        for symbol, target, ranked in zip(
            batch.input[0].tolist(), batch.target[0].tolist(), order.tolist(), strict=True
        ):
            legal = {k for k, may in enumerate(target[1:]) if may}
            rows += ((SYMBOLS[symbol], _letters(legal), _letters(ranked[: len(legal)])),)
        return {"next_symbols": "\n".join(f"| {' | '.join(row)} |" for row in rows)}


def _letters(symbols: Iterable[int]) -> str:
    return " ".join(SYMBOLS[k] for k in sorted(symbols))


def closes(target: Tensor) -> Tensor:
    """(N,): whether the next symbol has to be the second of the string again."""
    alone = target[:, 1:].sum(1) == 1
    return alone & ((target[:, 0] == SYMBOLS.index("T")) | (target[:, 0] == SYMBOLS.index("P")))


def legal(prediction: Tensor, target: Tensor) -> Tensor:
    return target[:, 1:].gather(1, prediction.argmax(-1, keepdim=True))[:, 0] > 0


def all_legal(prediction: Tensor, target: Tensor) -> Tensor:
    may = target[:, 1:] > 0
    return prediction.masked_fill(~may, math.inf).amin(1) > prediction.masked_fill(may, -math.inf).amax(1)


def closed(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction.argmax(-1) == target[:, 0])[closes(target)]
