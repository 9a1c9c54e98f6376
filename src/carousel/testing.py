"""What our tests run on our own cells, for anyone's: `check_cell`; and how they compare two modules."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .cells import Cell
from .engine import Choice, explain
from .layer import Recurrent
from .regularization import Regularization

STEPS, BATCH = 6, 3
TOLERANCE = 1e-9


def check_cell(
    cell: type[nn.Module] | nn.Module,
    input_size: int | None = None,
    hidden_size: int | None = None,
    *,
    smooth: bool = True,
    **options: Any,
) -> Choice:
    """Check a cell as our own cells are checked, in float64 and with all gradients; a few seconds, most of them for the
    compiler.

    That a call repeats itself; a layer gives what the cell gives step by step; padded sequences, and those after a
    reset, come out as if run alone; a `state_dict` holds all that the step reads; each parameter takes part; first and
    second derivatives are those of finite differences; and, if all that is so and the kernel takes the cell, that it
    agrees with the loop, in two layers and both directions, with and without lengths, resets, zoneout and recurrent
    dropout.

    Args:
        cell: a subclass of `Cell`, or what else `Recurrent` takes; a module that is given as it is stays as it is.
        input_size, hidden_size: to try it with; by default a module's own, and 3 and 4 of a class.
        smooth: whether its gradients are meant to be those of its numbers; False for a cell that detaches or rounds.
        options: of the cell.

    Returns:
        The engine, "fused" if the kernel takes the cell and "eager" if the loop alone does, and why.

    Raises:
        AssertionError: something is not so; a line for each such thing.
        TypeError, ValueError: as `Recurrent` and the cell's constructor.
    """
    kind = cell if isinstance(cell, type) else type(cell)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tried = _Tried(cell, input_size, hidden_size, options)
        faults = []
        for said, check in _CHECKS.items():
            if (check is _gradients and not smooth) or (check is _kernel and faults):
                continue
            try:
                check(tried)
            except Exception as error:  # whatever the cell's own code raises, too
                faults.append(f"{said}: {_line(error)}")
        if faults:
            raise AssertionError("\n".join([f"{kind.__name__} fails {len(faults)} of {len(_CHECKS)} checks", *faults]))
        return tried.choice()


class _Tried:
    """A cell under test: layers of it, with every parameter moved a little, and an input."""

    def __init__(self, cell: Any, input_size: int | None, hidden_size: int | None, options: dict[str, Any]) -> None:
        self.cell, self.options, self.several = cell, options, isinstance(cell, type)
        self.sizes = (input_size or 3, hidden_size or 4) if self.several else (input_size, hidden_size)
        self.single, self.stack = self.layer().eval(), self.layer(deep=True).eval()  # by the loop, until `_kernel`
        self.x = torch.randn(STEPS, BATCH, self.single.input_size, dtype=torch.float64)

    def layer(self, deep: bool = False, **options: Any) -> Recurrent:
        options |= {"num_layers": 2, "bidirectional": True} if deep and self.several else {}
        options |= {"dtype": torch.float64} if self.several else {}
        cell = self.cell if self.several else copy.deepcopy(self.cell).double()
        layer = Recurrent(cell, *self.sizes, backend="eager", **options, **self.options)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += torch.empty_like(parameter).uniform_(-0.1, 0.1)
        return layer

    def noisy(self) -> tuple[Recurrent, dict[str, Any]]:
        """A layer with every mask that the cell can have, and the options of such a call."""
        kind = type(self.stack.cell())
        noise = {"zoneout": 0.3} | ({"recurrent": 0.4} if kind.forward is Cell.forward else {})
        call: dict[str, Any] = {"lengths": [STEPS, 2, 4]}
        if kind.initial_state is Cell.initial_state:
            call["reset"] = _reset()
        return self.layer(deep=True, regularization=Regularization(**noise)), call

    def calls(self) -> list[tuple[Recurrent, dict[str, Any]]]:
        return [(self.stack, {}), self.noisy()]

    def choice(self) -> Choice:
        """The kernel's, or what is in its way."""
        found = [choice for layer, call in self.calls() for choice in explain(_by("fused", layer), self.x, **call)]
        return next((choice for choice in found if choice.engine != "fused"), found[0])


def _reset() -> Tensor:
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[[3, 4], 0] = reset[1, 2] = True
    return reset


def _by(backend: str, layer: Recurrent) -> Recurrent:
    layer = copy.deepcopy(layer)
    layer.backend = backend
    return layer


def _line(error: Exception) -> str:
    """What an error says, in one line: of one of torch's comparisons the greatest difference."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    where = lines[0].removesuffix(": Tensor-likes are not close!").removesuffix("Tensor-likes are not close!")
    greatest = [line for line in lines if line.startswith(("Greatest absolute difference", "Expected"))]
    said = ": ".join(filter(None, [where, *greatest[:1]])) if isinstance(error, AssertionError) else lines[0]
    return said if isinstance(error, AssertionError) else f"{type(error).__name__}: {said}"


def _close(got: Any, expected: Any) -> None:
    torch.testing.assert_close(tensors(got), tensors(expected), rtol=TOLERANCE, atol=TOLERANCE)


def _repeats(tried: _Tried) -> None:
    _close(tried.stack(tried.x), tried.stack(tried.x))


def _steps(tried: _Tried) -> None:
    cell, state, outputs = tried.single.cell(), None, []
    for row in tried.x:
        state = cell(row, state)
        outputs.append(tensors(state)[0])
    output, last = tried.single(tried.x)
    _close(output, torch.stack(outputs))
    _close([s[0] for s in tensors(last)], state)


def _chunks(tried: _Tried) -> None:
    whole, last = tried.single(tried.x)
    first, state = tried.single(tried.x[:2])
    rest, state = tried.single(tried.x[2:], state)
    _close([torch.cat([first, rest]), *tensors(state)], [whole, *tensors(last)])


def _padding(tried: _Tried) -> None:
    lengths = [STEPS, 1, 4]
    x = tried.x.clone()
    for b, length in enumerate(lengths):
        x[length:, b] = torch.nan
    output, last = tried.stack(x, lengths=lengths)
    for b, length in enumerate(lengths):
        alone, state = tried.stack(x[:length, b : b + 1])
        _close(
            [output[:length, b], *(s[:, b] for s in tensors(last))], [alone[:, 0], *(s[:, 0] for s in tensors(state))]
        )
        _close(output[length:, b], torch.zeros_like(output[length:, b]))


def _resets(tried: _Tried) -> None:
    if type(tried.stack.cell()).initial_state is not Cell.initial_state:
        return  # such a layer refuses them
    output, _ = tried.stack(tried.x, reset=_reset())
    for b, pieces in enumerate(([3, 1, 2], [6], [1, 5])):
        alone = [tried.stack(piece)[0] for piece in tried.x[:, b : b + 1].split(pieces)]
        _close(output[:, b], torch.cat(alone)[:, 0])


def _saved(tried: _Tried) -> None:
    other = tried.layer(deep=True).eval()
    other.load_state_dict(tried.stack.state_dict())
    _close(other(tried.x), tried.stack(tried.x))


def _parameters(tried: _Tried) -> None:
    output, last = tried.single(tried.x)
    wanted = {name: p for name, p in tried.single.named_parameters() if p.requires_grad}
    loss = sum((y.sum() for y in (output, *tensors(last))), torch.zeros(()))
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True) if wanted else ()
    idle = [n for n, d in zip(wanted, found, strict=True) if d is None]  # pyright: ignore[reportUnnecessaryComparison]
    if idle:
        raise AssertionError(", ".join(idle))


def _gradients(tried: _Tried) -> None:
    kept = {name: p.detach() for name, p in tried.single.named_parameters() if p.requires_grad}

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(tried.single, dict(zip(kept, parameters, strict=True)), (x,))[0]

    given = [t.clone().requires_grad_() for t in (tried.x[:3], *kept.values())]
    torch.autograd.gradcheck(run, given, fast_mode=True)
    torch.autograd.gradgradcheck(run, given, fast_mode=True)


def _kernel(tried: _Tried) -> None:
    for (layer, call), carried in zip(tried.calls(), (False, True), strict=True):
        fused = _by("fused", layer)
        if {choice.engine for choice in explain(fused, tried.x, **call)} != {"fused"}:
            continue
        directions, sizes = 4 if tried.several else 1, layer.cell().state_sizes
        hx = tuple(torch.rand(directions, BATCH, size, dtype=torch.float64) + 0.1 for size in sizes)
        given = (tried.x, hx[0] if len(hx) == 1 else hx) if carried else (tried.x,)
        assert_same_with_gradients(Seeded(fused, **call), Seeded(layer, **call), *given, tolerance=TOLERANCE)
        if not carried:
            _close(_second(fused, tried.x), _second(layer, tried.x))


def _second(layer: Recurrent, x: Tensor) -> tuple[Tensor, ...]:
    """Of a function of the first derivatives, those with respect to all parameters."""
    wanted = [x.clone().requires_grad_(), *(p for p in layer.parameters() if p.requires_grad)]
    grad = partial(torch.autograd.grad, inputs=wanted, allow_unused=True, materialize_grads=True)
    first = grad(layer(wanted[0])[0].sin().sum(), create_graph=True)
    return grad(sum((d.square().sum() for d in first), torch.zeros(())))


_CHECKS: dict[str, Callable[[_Tried], None]] = {
    "two calls with the same input differ: it draws random numbers, or remembers": _repeats,
    "called step by step, the cell does not give what a layer of it gives": _steps,
    "in two chunks, with the state carried on, a sequence is not what it is as a whole": _chunks,
    "with lengths, a sequence is not what it is alone": _padding,
    "after a reset, a sequence is not what it is alone": _resets,
    "with its state_dict loaded, another layer gives something else: a step reads what is not saved": _saved,
    "parameters that take no part": _parameters,
    "its gradients are not those of finite differences (if it detaches or rounds: smooth=False)": _gradients,
    "the kernel does not give what the loop gives": _kernel,
}


def tensors(nested: Any) -> list[Tensor]:
    """All tensors of nested tuples, in order."""
    return [nested] if isinstance(nested, Tensor) else [t for part in nested for t in tensors(part)]


class Seeded(nn.Module):
    """A layer, called with these options and with the same noise each time."""

    def __init__(self, layer: nn.Module, **call: Any) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x: Any, hx: Any = None) -> Any:
        torch.manual_seed(2)
        return self.layer(x, hx, **self.call)


def run_with_gradients(module: nn.Module, *inputs: Any) -> list[Tensor]:
    """Outputs, and the gradients of inputs, states and parameters for a random loss on every output."""
    torch.manual_seed(1)
    given = [[t.detach().clone().requires_grad_() for t in tensors(x)] for x in inputs]
    packed = [tuple(g) if isinstance(x, tuple) else g[0] for g, x in zip(given, inputs, strict=True)]
    outputs = tensors(module(*packed))
    loss = sum(((y * torch.randn_like(y)).sum() for y in outputs), torch.zeros(()))
    wanted = [*tensors(given), *module.parameters()]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [*outputs, *gradients]


def assert_same_with_gradients(ours: nn.Module, theirs: nn.Module, *inputs: Any, tolerance: float = 1e-10) -> None:
    """Compare what two modules of the same parameters make of the same inputs: outputs, and the gradients with respect
    to inputs and parameters.

    Raises:
        AssertionError: one of them differs; it is named.
    """
    mine, reference = run_with_gradients(ours, *inputs), run_with_gradients(theirs, *inputs)
    given = [f"input {k}" for k in range(len(tensors(inputs)))] + [name for name, _ in ours.named_parameters()]
    names = [f"output {k}" for k in range(len(mine) - len(given))] + [f"the gradient of {name}" for name in given]
    for name, a, b in zip(names, mine, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda said, name=name: f"{name}: {said}")
