r"""By which way the gradient comes back: along the carousel, through the gates, or by both in turn."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ..regularization import Detach
from .flow import Flow
from .walk import walk


@dataclass(frozen=True)
class Paths:
    r"""The gradient along the backward pass of one layer and direction: in all, and by each of its two paths alone.

    A step back is the sum of two: :math:`\partial s_t/\partial s_{t-1} = C_t + G_t`, C what `update` takes of the old
    states directly (the carousel: f on c in an LSTM, z on h in a GRU), G what goes through the hidden map into the
    gates. `carousel` is what the product of the C alone carries, for an LSTM's c :math:`\prod f_t`; `gates` that of the
    G alone; `total` that of the sums, which holds all the paths that change between the two as well. So the three norms
    do not add up. What peepholes read of c, and further products that `update` makes of the states, such as Cho's GRU
    of r * h, count to the carousel; what zoneout and padding keep of a state is neither path's, and in all three.
    """

    total: Flow
    carousel: Flow
    gates: Flow


def paths(layer: nn.Module, loss: Callable[[], Tensor]) -> list[Paths]:
    """Split the gradient by the paths that it may take back (Hochreiter & Schmidhuber 1997, section 3.2, for the
    carousel; Arpit et al. 2019, section 2, for both).

    What is detached in training, by `Detach`, is attached for this measure. Arguments, order and errors as in `flow`.

    Raises:
        ValueError: also if a cell has a forward of its own, which has no hidden map that could be told apart.
    """
    ways = Detach(gates=1), Detach(carousel=1)
    return [Paths(*map(Flow, curves)) for curves in walk(layer, loss, ways)]
