"""The trigram is Kneser & Ney's, and reads what the model reads."""

from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel.lab.data import once
from carousel.lab.tasks import Batch
from carousel.lab.tasks.real.ngrams import KneserNey


def test_a_text_of_five_symbols_by_hand():
    """0 1 0 1 1: the trigrams 010, 101 and 011, the continuations 10, 01 and 11, and of these 0 once and 1 twice."""
    p1 = {0: (1 - 1 / 3) / 3 + 1 / 3 * 2 / 3 / 2, 1: (2 - 1 / 3) / 3 + 1 / 3 * 2 / 3 / 2}
    assert p1 == pytest.approx({0: 1 / 3, 1: 2 / 3})
    p2 = (1 - 0.5) / 2 + 0.5 * 2 / 2 * p1[0]  # of 0 after 1
    p3 = (1 - 0.5) / 2 + 0.5 * 2 / 2 * p2  # of 0 after 0 1
    assert p3 == pytest.approx(11 / 24)
    model = KneserNey(torch.tensor([0, 1, 0, 1, 1]), 2)
    found = model.log_probabilities(torch.tensor([0, -1, 1]), torch.tensor([1, 1, 1])).exp()
    # After 1 1, which was never seen with a symbol after it, as after 1 alone.
    torch.testing.assert_close(found, torch.tensor([[p3, 1 - p3], [p2, 1 - p2], [p2, 1 - p2]]))


def slow(symbols, num):
    """p(w | context) for a context of at most two symbols, by the formula."""
    trigrams = Counter(zip(symbols, symbols[1:], symbols[2:], strict=False))
    levels = [None, None, trigrams]
    for k in (1, 0):
        levels[k] = Counter(gram[1:] for gram in levels[k + 1])
    tables = []
    for counts in levels:
        n1, n2 = (sum(c == n for c in counts.values()) for n in (1, 2))
        discount = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
        table = defaultdict(dict)
        for gram, c in counts.items():
            table[gram[:-1]][gram[-1]] = c
        tables.append((discount, table))

    def p(w, context):
        discount, table = tables[len(context)]
        below = p(w, context[1:]) if context else 1 / num
        seen = table.get(context)
        if not seen:
            return below
        total = sum(seen.values())
        return max(seen.get(w, 0) - discount, 0) / total + discount * len(seen) / total * below

    return p


@settings(max_examples=30, deadline=None)
@given(symbols=st.lists(st.integers(0, 4), min_size=3, max_size=60))
def test_as_the_formula_says_and_it_adds_up_to_one(symbols):
    model, p = KneserNey(torch.tensor(symbols), 5), slow(symbols, 5)
    first, second = torch.cartesian_prod(torch.arange(-1, 5), torch.arange(5)).T.contiguous()
    found = model.log_probabilities(first, second).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(30))
    for row, a, b in zip(found.tolist(), first.tolist(), second.tolist(), strict=True):
        assert row == pytest.approx([p(w, (a, b) if a >= 0 else (b,)) for w in range(5)], abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(chunk=st.integers(1, 9), rows=st.integers(1, 4), seed=st.integers(0, 99))
def test_where_a_batch_goes_on_it_knows_the_symbol_before(chunk, rows, seed):
    symbols = torch.randint(4, (40,), generator=torch.Generator().manual_seed(seed))
    model = KneserNey(symbols, 4)
    series = symbols[:-1], symbols[1:]
    cut = torch.cat([model(batch) for batch in once(series, chunk, rows)], 1)
    (whole,) = (model(batch) for batch in once(series, 40, rows))
    torch.testing.assert_close(cut, whole, rtol=0, atol=0)
    alone = model(Batch(symbols[None, 1:3], symbols[None, 2:4]))[0, 0]
    torch.testing.assert_close(alone, model.log_probabilities(torch.tensor([-1]), symbols[1:2])[0])
