"""Hidden units in another order: what operations are given as one vector, if it is none as it stands."""

import torch
from torch import Tensor

from .graph import Unsupported
from .labels import units_of
from .traced import Part


class Gathers(Part):
    """The part of a tracer that writes down which units of which expressions a vector consists of."""

    def gathered(self, label: Tensor) -> Tensor:
        """(3, rows, n) with the same units in each row, as one vector.

        Raises:
            Unsupported: they are not the same, or no single units.
        """
        expression, unit, sequence = label
        if not ((expression == expression[:1]) & (unit == unit[:1])).all():
            raise Unsupported("it does not treat all sequences alike")
        pairs = list(zip(expression[0].tolist(), unit[0].tolist(), strict=True))
        operands, units = tuple(dict.fromkeys(e for e, _ in pairs)), units_of(len(pairs))
        if len(operands) == 1 and (unit[0] == units).all():
            return label
        index, at = [], dict(zip(operands, self._starts(operands), strict=True))
        for e, u in pairs:
            width = self.graph.widths[e]
            place = u - units_of(width)[0].item() if width > 1 else 0
            if not 0 <= place < width:
                raise Unsupported("it mixes hidden units other than by the hidden map")
            index.append(at[e] + place)
        number = self.graph.add("gather", operands, tuple(index), width=len(pairs))
        return torch.stack([torch.full_like(unit, number), units.expand_as(unit), sequence])

    def _starts(self, operands: tuple[int, ...]) -> list[int]:
        """Where each stands, if they stand one after the other."""
        widths = [self.graph.widths[e] for e in operands]
        return [sum(widths[:k]) for k in range(len(widths))]

    def vector_of(self, label: Tensor) -> Tensor:
        """(3, rows, n) as a vector, if it is none, nor one number for all units."""
        expression, unit, _ = label
        alike = (expression == expression[:1, :1]).all() and ((unit == units_of(label.size(-1))) | (unit == -1)).all()
        return label if alike else self.gathered(label)

    def aligned(self, labels: list[Tensor]) -> list[Tensor] | None:
        """Operands, (3, n) or (3, rows, n), as vectors; None if they are so already."""
        found = [label if label.dim() not in (2, 3) else self._as_vector(label) for label in labels]
        return None if all(a is b for a, b in zip(found, labels, strict=True)) else found

    def _as_vector(self, label: Tensor) -> Tensor:
        made = self.gathered(label.reshape(3, -1, label.size(-1)))
        return label if made.data_ptr() == label.data_ptr() else made.view(label.shape)

    def runs(self, label: Tensor) -> tuple[tuple, list[int], Tensor]:
        """(3, heads, rows, columns) to the expressions along the columns, each with its units; for how many columns of
        a head each stands; and the sequences of the rows."""
        try:
            return self._in_runs(label)
        except Unsupported as error:
            try:
                return self._in_runs(self._in_one(label))
            except Unsupported:
                raise error from None

    def run(self, label: Tensor) -> int:
        """The expression of what is to be one vector."""
        operands, *_ = self.runs(label)
        if len(operands) != 1:
            operands, *_ = self._in_runs(self._in_one(label))
        return operands[0][0]

    def _in_one(self, label: Tensor) -> Tensor:
        return self.gathered(label.transpose(1, 2).flatten(-2)).unflatten(-1, (label.size(1), -1)).transpose(1, 2)

    def _in_runs(self, label: Tensor) -> tuple[tuple, list[int], Tensor]:
        expression, unit, sequence = label
        heads, _, columns = expression.shape
        sequences = sequence.amax(-1)
        if not (expression == expression[:1, :1]).all() or not (unit == unit[:, :1]).all():
            raise Unsupported("it multiplies different expressions by one matrix")
        if ((sequence != sequences.unsqueeze(-1)) & (sequence != -1)).any():
            raise Unsupported("it mixes the sequences of a batch other than by the hidden map")
        e, u = expression[0, 0].tolist(), unit[:, 0]
        first = u[0].tolist()
        starts = [k for k in range(columns) if k == 0 or e[k] != e[k - 1] or first[k] != first[k - 1] + (first[k] >= 0)]
        operands, lengths = [], []
        for at, end in zip(starts, [*starts[1:], columns], strict=True):
            width, part = (end - at) * heads, u[:, at:end]
            if not ((part == -1).all() or (part == units_of(width).view(heads, -1)).all()):
                raise Unsupported("it multiplies a part of the units by a matrix")
            operands.append((e[at], width))
            lengths.append(end - at)
        return tuple(operands), lengths, sequences
