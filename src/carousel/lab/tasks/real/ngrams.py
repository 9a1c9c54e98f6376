"""What the last symbols alone tell of the next one: counts, smoothed."""

import torch
from torch import Tensor

from ..task import Batch


class KneserNey:
    """The next symbol's log-probabilities after the last two, a trigram model.

    Interpolated Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999, section 4.1.6): of each count c(u v w) a discount
    D = n1 / (n1 + 2 n2) is taken, with n1 and n2 the n-grams seen once and twice, and given to the shorter context,

        p(w | u v) = (c(u v w) - D) / c(u v) + D N(u v .) / c(u v) p(w | v),

    where N(u v .) symbols have been seen after u v. A shorter context counts, in place of how often v w was seen, how
    many symbols it was seen after. Under p(w) lies the uniform distribution, so that nothing is impossible.

    It predicts of a `Batch` of symbols (B, T), (B, T, num_symbols), and where a batch goes on it knows the symbol
    before. A context that was never seen leaves it to the shorter one.

    Args:
        symbols: (N,), of training.
        num_symbols: V; symbols are under it.
    """

    def __init__(self, symbols: Tensor, num_symbols: int) -> None:
        v = self.num_symbols = num_symbols
        self.levels: list[tuple[Tensor, ...]] = []  # for a context of two symbols, and of one
        codes = (symbols[:-2] * v + symbols[1:-1]) * v + symbols[2:]
        codes, counts = codes.unique(return_counts=True)  # sorted: those of one context side by side
        for context in (2, 1, 0):
            once, twice = (int((counts == n).sum()) for n in (1, 2))
            discount = once / (once + 2 * twice) if once and twice else 0.5
            keys, which, kinds = (codes // v).unique_consecutive(return_inverse=True, return_counts=True)
            total = torch.zeros(len(keys), dtype=torch.double).index_add_(0, which, counts.double())
            share = ((counts - discount) / total[which]).float()
            rest = (discount * kinds / total).float()
            if context:
                self.levels.append((keys, kinds, kinds.cumsum(0) - kinds, rest, codes % v, share))
            else:
                self.without = (rest / v).expand(v).index_add(0, codes, share)  # (V,), knowing no context
            codes, counts = (codes % v**context).unique(return_counts=True)
        self.last: Tensor | None = None  # (B, 1), of the batch before

    def __call__(self, batch: Batch) -> Tensor:
        x = batch.input.cpu()
        unknown = torch.full_like(x[:, :1], -1)
        before = self.last if batch.goes_on and self.last is not None else unknown
        self.last = x[:, -1:]
        first = torch.cat([before, x[:, :-1]], 1)
        return self.log_probabilities(first.flatten(), x.flatten()).view(*x.shape, -1).to(batch.input.device)

    def log_probabilities(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, V) after contexts (N,), (N,); a first symbol that is not known is -1."""
        contexts = (torch.where(first < 0, -1, first * self.num_symbols + second), second)
        weight, found = torch.ones(len(second)), []  # of shorter contexts; rows, symbols and what they get
        for context, (keys, kinds, begins, rest, symbols, share) in zip(contexts, self.levels, strict=True):
            k = torch.searchsorted(keys, context.contiguous()).clamp(max=len(keys) - 1)
            seen = keys[k] == context
            num = torch.where(seen, kinds[k], 0)
            rows = torch.arange(len(k)).repeat_interleave(num)
            entries = torch.arange(len(rows)) + (begins[k] - num.cumsum(0) + num).repeat_interleave(num)
            found.append((rows, symbols[entries], share[entries] * weight[rows]))
            weight = weight * torch.where(seen, rest[k], 1.0)
        p = weight[:, None] * self.without
        for rows, symbols, more in found:
            p[rows, symbols] += more
        return p.log_()
