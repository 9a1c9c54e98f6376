"""The multiplication problem."""

from dataclasses import dataclass

from torch import Tensor

from .adding import Adding


@dataclass(frozen=True)
class Multiplication(Adding):
    """Multiply two marked numbers (Hochreiter & Schmidhuber 1997, section 5.5), which are shown as in `Adding`.

        number  0.3  0.7  0.1  0.9  0.5  0.2
        mark     0    1    0    0    1    0      target 0.7 * 0.5 = 0.35

    The loss is the mean squared error. Always answering 1/4 costs Var(U * U) = 1/9 - 1/16 = 7/144: the baseline loss.
    """

    seq_len: int
    baseline_loss = 7 / 144

    def answer(self, marked: Tensor) -> Tensor:
        return marked.prod(1)
