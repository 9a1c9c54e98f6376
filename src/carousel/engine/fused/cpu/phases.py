"""The phases of a step as C++: which one computes what, and where each vector stands between them."""

from collections.abc import Sequence
from typing import NamedTuple

from ..graph import ACROSS, Graph, Outer, Unsupported
from .emit import FLAGS, cost, is_truth, statement


class Place(NamedTuple):
    """Where a vector stands, or several one after the other: what it is counted from, in C++, and how many numbers
    further; whether whole blocks may be read at its end."""

    base: str
    offset: int
    width: int
    padded: bool = True

    @property
    def address(self) -> str:
        return f"{self.base} + {self.offset}" if self.offset else self.base


class Output(NamedTuple):
    """An expression, for how many units it is wanted, and a statement that takes it as {v}, for the units from i on."""

    node: int
    width: int
    statement: str


class Memory:
    """Vectors one after the other, each in whole blocks."""

    def __init__(self, lanes: int) -> None:
        self.lanes, self.size = lanes, 0

    def take(self, width: int, spare: int = 0) -> int:
        at = self.size
        self.size += -(-(width + spare) // self.lanes) * self.lanes
        return at

    @property
    def stride(self) -> int:
        return self.size + 16  # not a power of two: rows would share cache sets


class Pass:
    """One pass of a step: its phases, one after the other, as C++.

    A phase begins with the products and the sums of what the phases before have left in memory; then comes the
    arithmetic unit by unit, which leaves what the later ones need. Of each section a thread does its share, and meets
    its team before the next.
    """

    def __init__(
        self,
        graph: Graph,
        lanes: int,
        names: Sequence[str],
        leaves: dict[tuple, Place],
        saved: dict[int, Place] | None = None,
    ) -> None:
        self.graph, self.lanes, self.names = graph, lanes, names
        self.memory, self.ring = Memory(lanes), Memory(lanes)
        self.places, self.areas = dict(saved or {}), {}
        for number, (op, args) in enumerate(self.graph.nodes):
            if op == "leaf" and args in leaves:
                self.places[number] = leaves[args]
        self.given = frozenset(self.places)
        self.pieces, self.outer_pieces, self.outer_calls = [], [], []
        self.packed, self.outer_size, self.outer_tiles, self.work = 0, 0, 0, 0
        self.outputs: list[Output] = []
        self.sections: list[str] = []
        """The products and sums of a phase, or its arithmetic."""
        self.split: set[int] = set()
        """Widths of what is computed unit by unit."""

    def outers(self, outers: Sequence[Outer]) -> None:
        """The gradients of matrices: have the ring keep what they are made of."""
        for heads, operands, blocks in outers:
            parts = [(operands, blocks)]
            if heads > 1:  # of which the numbers of a head stand together for one operand and one block alone
                pairs = [(i, j) for i in range(len(operands)) for j in range(len(blocks))]
                parts = [((operands[i],), ((*blocks[j][:2], blocks[j][2][i : i + 1]),)) for i, j in pairs]
            for some, some_blocks in parts:
                a = self._area(some, self.ring)
                d = self._area(tuple((gradient, n * heads) for gradient, n, _ in some_blocks), self.ring)
                K, N = a.width // heads, d.width // heads
                tile = _tile(-(-N // self.lanes))
                padded = -(-N // (tile * self.lanes)) * tile
                for head in range(heads):
                    to, at_a, at_d = self.outer_size, a.offset + head * K, d.offset + head * N
                    self.outer_pieces += self._pieces([block[1:] for block in some_blocks], head, to, 1, K)
                    self.outer_calls.append(
                        f"  add_outer<{tile}>(deal({padded // tile}), products + {to}, ring + {at_a}, {K},"
                        f" ring + {at_d}, places);"
                    )
                    self.outer_tiles += padded // tile
                    self.outer_size += padded * self.lanes * K
                    self.work += K * N

    def _pieces(self, blocks: list[tuple[int, tuple]], head: int, to: int, tile: int, depth: int) -> list[tuple]:
        """Of a head, the matrices of blocks of so many rows, as the tables have them."""
        found, n = [], 0
        for rows, weights in blocks:
            k = 0
            for name, offset, row, column, step, columns in weights:
                where = (self.names.index(name), offset + head * step, row, column, rows, columns)
                found.append((*where, to, tile, depth, k, n))
                k += columns
            n += rows
        return found

    def run(self, outputs: list[Output]) -> None:
        """Emit all phases, for these and for what has been asked for so far."""
        graph, self.outputs = self.graph, self.outputs + outputs
        needed = graph.reach([o.node for o in self.outputs], self.given)
        self.level = dict.fromkeys(self.given, 0)
        for n in needed:
            levels = [self.level[m] for m in graph.operands(n)]
            self.level[n] = max(levels, default=0) + (graph.nodes[n].op in ACROSS)
        across = [n for n in needed if graph.nodes[n].op in ACROSS]
        groups: dict[tuple, list[int]] = {}
        for n in across:
            op, (operands, what) = graph.nodes[n]
            key = (op, operands, what[0], tuple(w[5] for w in what[2])) if op == "product" else (op, n)
            groups.setdefault((self.level[n], *key), []).append(n)
        calls: dict[int, list[str]] = {}
        tiles: dict[int, int] = {}
        for (level, op, *_), numbers in groups.items():
            if op == "product":
                call, count = self._product(numbers)
                tiles[level] = tiles.get(level, 0) + count
            else:
                call = (self._gather if op == "gather" else self._reduction)(numbers[0])
            calls.setdefault(level, []).append(call)
        self._cross(needed)
        for level in range(1 + max([self.level[o.node] for o in self.outputs], default=0)):
            if level in calls:
                deal = f"  Deal deal{{me.share({tiles.get(level, 0)})}};"
                self.sections.append("\n".join(["  {", deal, *calls[level], "  }"]))
            self._arithmetic(level)

    def source(self, name: str) -> str:
        arguments = "const Problem& c, const Place& me, Row* at, long rows, const real* packed, const real* extra"
        arguments += ", real* sums, doubles* norms" if name == "backward" else ""
        outer = "static void add_outers(const Place& me, real* products, const real* ring, long places) {\n"
        outer += f"  Deal deal{{me.share({self.outer_tiles})}};"
        shares = ["  const Range of_rows = me.share(rows);"]
        shares += [f"  const Range of_{width} = me.units({width});" for width in sorted(self.split)]
        lines = [f"static void step_{name}({arguments}) {{", *shares, "\n  me.meet();\n".join(self.sections), "}"]
        return "\n".join(lines + [outer, *self.outer_calls, "}"] * (name == "backward"))

    def _area(self, vectors: tuple[tuple[int, int], ...], memory: Memory | None = None) -> Place:
        """Where these stand one after the other, from the phase on in which the last of them is made."""
        ((first, width), *more) = vectors
        if memory is None and not more and first in self.places and self.places[first].width == width:
            return self.places[first]
        if vectors not in self.areas:
            base, memory = ("r.q", self.ring) if memory is self.ring else ("r.s", self.memory)
            total = sum(n for _, n in vectors)
            at = memory.take(total, spare=4 * self.lanes)
            self.areas[vectors] = Place(base, at, total)
            for k, (node, width) in enumerate(vectors):
                place = Place(base, at, width, padded=k == len(vectors) - 1)
                self.outputs.append(Output(node, width, put(place)))
                if node not in self.places and self.graph.widths[node] == width:
                    self.places[node] = place._replace(padded=True)  # to read on is harmless
                at += width
        return self.areas[vectors]

    def _product(self, numbers: list[int]) -> tuple[str, int]:
        """Those with the same operands, and in how many tiles."""
        graph = self.graph
        operands, (heads, _, weights) = graph.nodes[numbers[0]].args
        columns = [w[5] for w in weights]
        if heads > 1 and len(set(columns)) > 1:
            raise Unsupported("its heads multiply vectors of different widths together")
        source = self._area(tuple((e, n * heads) for e, n in zip(operands, columns, strict=True)))
        depth, sizes = sum(columns), [graph.nodes[n].args[1][1] for n in numbers]
        calls, tiles, at = [], 0, self.memory.take(sum(sizes) * heads, spare=4 * self.lanes)
        for n, size in zip(numbers, sizes, strict=True):
            self.places[n] = Place("r.s", at, size * heads)
            at += size * heads
        for part in [numbers] if heads == 1 else [[n] for n in numbers]:
            N = sum(graph.nodes[n].args[1][1] for n in part)
            tile = _tile(-(-N // self.lanes))
            count = -(-N // (tile * self.lanes))
            blocks = [graph.nodes[n].args[1][1:] for n in part]
            for head in range(heads):
                self.pieces += self._pieces(blocks, head, self.packed, tile, depth)
                panels, length, apart = (len(columns), columns[0], columns[0] * heads) if heads > 1 else (1, depth, 0)
                start = source._replace(offset=source.offset + head * columns[0] * (heads > 1))
                to = self.places[part[0]]
                last = head == heads - 1 and part[-1] == numbers[-1]
                room = -(-N // self.lanes) * self.lanes if last else N  # another thread may write what stands behind
                calls.append(
                    f"  product<{tile}>(deal({count}), rows, packed + {self.packed}, {N}, {room}, {length}, {panels},"
                    f" {apart},\n"
                    f"    [&](long row) INLINED {{ const Row& r = at[row]; return (const real*)({start.address}); }},\n"
                    f"    [&](long row) INLINED {{ return at[row].s + {to.offset + head * N}; }});"
                )
                self.packed += count * tile * self.lanes * depth
                self.work += N * depth
                tiles += count
        return "\n".join(calls), tiles

    def _gather(self, number: int) -> str:
        graph = self.graph
        operands, index = graph.nodes[number].args
        if any(is_truth(graph, n) for n in operands):
            raise Unsupported("it moves truth values from unit to unit")
        source = self._area(tuple((n, graph.widths[n]) for n in operands))
        self.places[number] = place = Place("r.s", self.memory.take(len(index)), len(index))
        return (
            f"  static const int from{number}[] = {{{', '.join(map(str, index))}}};\n"
            f"  for (long row = of_rows.begin; row < of_rows.end; row++) {{ const Row& r = at[row];\n"
            f"    const real* source = {source.address}; real* to = {place.address};\n"
            f"    for (long i = 0; i < {len(index)}; i++) to[i] = source[from{number}[i]]; }}"
        )

    def _reduction(self, number: int) -> str:
        op, ((operand,), segments) = self.graph.nodes[number]
        width = self.graph.widths[operand]
        source = self._area(((operand, width),))
        result = self.graph.widths[number]
        self.places[number] = Place("r.s", self.memory.take(result), result)
        function = {"sum": "sum_of", "amax": "largest_of"}[op]
        return (
            f"  for (long row = of_rows.begin; row < of_rows.end; row++) {{ const Row& r = at[row];\n"
            f"    reduce({function}, {source.address}, {self.places[number].address}, {width}, {segments}); }}"
        )

    def _cross(self, needed: list[int]) -> None:
        """Have what a later phase needs stand in memory, unless it is easily made again."""
        graph, across = self.graph, {n for n in needed if self.graph.nodes[n].op in ACROSS}
        self.again = {
            n
            for n in needed
            if n not in across
            and (not graph.operands(n) or cost(graph.nodes[n].op) == 1)
            and all(m in self.given or m in across or not graph.operands(m) for m in graph.operands(n))
        }
        for n in (n for n in needed if n not in across):
            for m in graph.operands(n):
                if self.level[m] < self.level[n] and m not in self.places and m not in self.again:
                    self.places[m] = place = Place("r.s", self.memory.take(graph.widths[m]), graph.widths[m])
                    self.outputs.append(Output(m, place.width, put(place)))

    def _arithmetic(self, level: int) -> None:
        graph = self.graph
        outputs = [o for o in self.outputs if self.level[o.node] == level]
        if not outputs:
            return
        known = {n for n in self.places if n in self.level and (self.level[n] < level or n in self.given)}
        known |= {n for n in self.places if self.level.get(n) == level and graph.nodes[n].op in ACROSS}
        loops, before, names = [], [], {}
        for width in sorted({o.width for o in outputs}):
            some = [o for o in outputs if o.width == width]
            loop: list[str] = []
            for n in self._order([o.node for o in some], known):
                if n in names:
                    continue
                names[n] = f"v{n}"
                (before if graph.widths[n] == 1 else loop).append(f"const auto v{n} = {self._value(n, known)};")
            stores = [o.statement.format(v=names[o.node]) for o in some]
            self.split.add(width)
            if width == 1:
                before.append(f"if (of_1.size()) {{ {' '.join(stores)} }}")
            else:
                body = "\n      ".join(loop + stores)
                units = f"long i = of_{width}.begin; i < of_{width}.end; i += WIDTH"
                loops.append(f"    for ({units}) {{\n      {body}\n    }}")
        head = "".join(f"\n    {line}" for line in before)
        body = "\n".join(loops)
        self.sections.append(f"  for (long row = 0; row < rows; row++) {{ const Row& r = at[row];{head}\n{body}\n  }}")

    def _order(self, roots: list[int], known: set[int]) -> list[int]:
        """What is to be loaded or computed for these, operands first."""
        computed = self.graph.reach(roots, known)
        loaded = {m for n in computed for m in self.graph.operands(n) if m in known} | {n for n in roots if n in known}
        return sorted({*computed, *loaded})

    def _value(self, number: int, known: set[int]) -> str:
        op, args = self.graph.nodes[number]
        if number in known:
            place = self.places[number]
            if place.width == 1:
                value = f"splat(*({place.address}))"
            else:
                rest = "" if place.padded or place.width % self.lanes == 0 else f", {place.width} - i"
                value = f"load({place.address} + i{rest})"
            return f"bits({value})" if is_truth(self.graph, number) else value
        if op == "leaf" and args[0] in FLAGS:
            return f"flag(c.{args[0]}[r.tb])"
        return statement(self.graph, number, lambda n: f"v{n}")


def put(place: Place) -> str:
    if place.width == 1:
        return f"put_one({place.address}, {{v}});"
    return f"put({place.address} + i, {{v}}{'' if place.padded else f', {place.width} - i'});"


def _tile(blocks: int) -> int:
    """Blocks in a tile: the larger, the less is read again for each; but padding is worked on in vain."""
    return min((4, 2, 1), key=lambda n: -(-blocks // n) * n * {4: 1.0, 2: 1.2, 1: 1.6}[n])
