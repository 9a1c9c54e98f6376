"""The products of a step that torch does, between one launch and the next."""

from collections.abc import Collection, Iterable, Sequence

from torch import Tensor

from ..graph import Graph


class Columns:
    """Where vectors stand that are one after the other, for each sequence."""

    def __init__(self, widths: Iterable[int]) -> None:
        self.widths = tuple(widths)
        self.places = tuple(sum(self.widths[:k]) for k in range(len(self.widths)))
        self.total = sum(self.widths)

    def split(self, tensor: Tensor) -> list[Tensor]:
        return list(tensor.split(self.widths, -1))


class Between:
    """Those of one pass, in turns: in each, all that need none of each other.

    Args:
        graph: of expressions.
        roots: what the pass makes.
        known: the nodes that it is given.
    """

    def __init__(self, graph: Graph, roots: Sequence[int], known: Collection[int]) -> None:
        self.graph, turn = graph, dict.fromkeys(known, 0)
        self.turns: list[list[int]] = []
        for n in graph.reach(roots, known):
            turn[n] = max((turn[m] for m in graph.operands(n)), default=0)
            if graph.nodes[n].op == "product":
                if turn[n] == len(self.turns):
                    self.turns.append([])
                self.turns[turn[n]].append(n)
                turn[n] += 1
        self.factors = [list(dict.fromkeys(f for n in turn for f in factors(graph, n))) for turn in self.turns]
        """What is multiplied in each turn: vectors, and how many units of them."""
        made = [(n, graph.widths[n]) for turn in self.turns for n in turn]
        everything = list(dict.fromkeys([*made, *(f for turn in self.factors for f in turn)]))
        self.columns = Columns(units for _, units in everything)
        self.at = dict(zip(everything, self.columns.places, strict=True))
        """Where in memory each of these stands, and each product."""
        self.products = {n: (self.at[n, units], units) for n, units in made}
        """The same of the products alone, and their units."""

    def multiply(self, k: int, scratch: Tensor, weights: dict[str, Tensor]) -> None:
        """Fill in the products of turn k; `scratch` is (B, columns)."""

        def part(vector: tuple[int, int], heads: int) -> Tensor:
            columns = scratch.narrow(1, self.at[vector], vector[1])
            return columns.unflatten(1, (heads, -1)).transpose(0, 1)

        for n in self.turns[k]:
            _, (heads, rows, matrices) = self.graph.nodes[n].args
            product = part((n, heads * rows), heads)
            for m, (pair, matrix) in enumerate(zip(factors(self.graph, n), matrices, strict=True)):
                name, offset, row, column, apart, columns = matrix
                weight = weights[name].as_strided((heads, columns, rows), (apart, column, row), offset)
                product.baddbmm_(part(pair, heads), weight, beta=min(m, 1))


def factors(graph: Graph, product: int) -> list[tuple[int, int]]:
    """What a product multiplies, and how many units of each."""
    operands, (heads, _, matrices) = graph.nodes[product].args
    return [(m, heads * matrix[5]) for m, matrix in zip(operands, matrices, strict=True)]
