"""Short sequences on a CPU: the engine that is the fastest, as `scripts/bench.py --short` measures it."""

import torch

LIMITS = {"lstm": (1200, 600), "gru": (120, 97), "rnn_tanh": (480, 245), "rnn_relu": (480, 245)}
"""Up to where torch's own kernel is taken, in inference and in training.

Ours packs the weights in each call and has more of Python around it, which is worth it after some steps. Measured at
T = 1, 2, 5, 10, 25, B = 1, 8, 32 and H = 16 to 512 in float32, on one thread: what decides is T (16 + B), and a bit of
H. Where the two are within some percent of each other it is torch's, so that nobody loses by having left it. oneDNN has
no LSTM in float64, where ATen's runs step by step, as its GRU and RNN always do."""


LIMIT_ALONE = 5000
"""That of an LSTM in inference, of more than two sequences on one thread: oneDNN does the same product there, and up to
T = 100, B = 32 is the faster one by a few percent. With two threads ours is."""


def torchs(function: str, steps: int, batch: int, hidden: int, double: bool, training: bool) -> bool:
    """Whether torch's kernel is taken."""
    limit = LIMITS["gru" if double and function == "lstm" else function][training]
    if function == "lstm" and not training and not double and batch > 2 and torch.get_num_threads() == 1:
        limit = LIMIT_ALONE
    return steps * (16 + batch) <= limit + hidden // 5


def loops(steps: int) -> bool:
    """Whether the loop is taken for a cell that torch does not have: for a single step a kernel has nothing to gain."""
    return steps == 1
