"""What the forward pass keeps for the adjoint: the least costly choice of values to store, the rest made again."""

from collections.abc import Callable, Collection

from .graph import Graph

STORE = 20.0
"""Writing and reading a value, in units of an addition: mostly the way to memory and back. A tanh is about 12."""


def choose(
    graph: Graph,
    forward: Collection[int],
    adjoint: Collection[int],
    free: Callable[[tuple], bool],
    cost: Callable[[str], float],
) -> tuple[int, ...]:
    """The nodes to store, in order.

    Args:
        graph: of both passes.
        forward: the roots of the forward pass.
        adjoint: the roots of the adjoint.
        free: whether a leaf is at hand in the adjoint anyway.
        cost: of an operation.
    """
    made = {n for n in graph.reach(forward) if graph.nodes[n].op != "const" and not _is_free(graph, n, free)}

    def total(stored: frozenset[int]) -> float:
        again = graph.reach(adjoint, stored)
        if any(graph.nodes[n].op == "leaf" and not _is_free(graph, n, free) for n in again):
            return float("inf")
        return STORE * len(stored) + sum(cost(graph.nodes[n].op) for n in again if graph.operands(n))

    def thinned(stored: frozenset[int]) -> frozenset[int]:
        """Without those that are cheaper made again."""
        for n in sorted(stored, reverse=True):
            if total(stored - {n}) <= total(stored):
                stored -= {n}
        return stored

    read = {n for m in graph.reach(adjoint) if m not in made for n in graph.operands(m)} | set(adjoint)
    best = thinned(frozenset(read & made))
    for n in sorted(made - best):  # one value that several can be made of
        other = thinned(best | {n})
        best = other if total(other) < total(best) else best
    return tuple(sorted(best))


def _is_free(graph: Graph, number: int, free: Callable[[tuple], bool]) -> bool:
    node = graph.nodes[number]
    return node.op == "leaf" and free(node.args)
