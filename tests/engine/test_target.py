"""A target is one more entry of `TARGETS`: it is chosen by the tensors' device, and says itself what it can do."""

import pytest
import torch
from agreement import needs_compiler
from torch import Tensor

import carousel
from carousel.cells import ChoGRUCell, MGUCell
from carousel.engine.fused import TARGETS
from carousel.engine.fused.graph import Unsupported
from carousel.engine.fused.target import BuildError, Kernel, Target
from carousel.engine.registry import REGISTRY


class Paper(Target):
    """For tensors without numbers: what its kernels are given is written down."""

    device, name, dtypes = "meta", "paper", (torch.float32, torch.bfloat16)
    operations = TARGETS["cpu"].operations
    lacks, error = "", None

    def __init__(self) -> None:
        self.calls = []

    def kernel(self, step, dtype, hidden_size, sizes, update_mask, keep=None) -> Kernel:
        if self.error:
            raise self.error
        return Sheet(self, step.new[:2])


class Sheet(Kernel):
    def __init__(self, paper: Paper, saved: tuple[int, ...]) -> None:
        self.paper, self.saved, self.kept, self.sources = paper, saved, 7, {"forward": "", "backward": ""}

    def call(self, which: str, x: Tensor, given: dict) -> None:
        shapes = {"x": tuple(x.shape)}
        for name, value in given.items():
            parts = [tuple(t.shape) for t in (value if isinstance(value, list) else [value]) if t is not None]
            if parts and all(0 not in shape for shape in parts):
                shapes[name] = parts if isinstance(value, list) else parts[0]
        self.paper.calls.append((which, shapes))

    def unpack(self, kept: Tensor) -> list[Tensor]:
        return [kept[..., :1], kept[..., 1:6]]


@pytest.fixture
def paper(monkeypatch):
    made = Paper()
    monkeypatch.setitem(TARGETS, "meta", made)
    REGISTRY.forget()
    yield made
    REGISTRY.forget()


def reason(layer, **options) -> tuple[str, str]:
    (choice,) = carousel.explain(layer, torch.empty(4, 2, 3, device="meta", **options))
    return choice


def test_without_one_it_is_the_loops():
    layer = carousel.Recurrent(MGUCell, 3, 5, device="meta")
    assert reason(layer) == ("eager", "the kernel is for the CPU, not for meta")


def test_a_pass_is_called_with_what_it_reads_and_what_it_fills_in(paper):
    layer = carousel.Recurrent(MGUCell, 3, 5, device="meta", backend="fused")
    x = torch.empty(4, 2, 3, device="meta", requires_grad=True)
    output, state = layer(x, lengths=[4, 2])
    assert (output.shape, state.shape, output.is_meta) == ((4, 2, 5), (1, 2, 5), True)
    output.sum().backward()
    assert all(p.grad.shape == p.shape and p.grad.is_meta for p in (x, *layer.parameters()))
    (forward, read), (backward, written) = paper.calls
    weights = {"w_x": (10, 3), "b_x": (10,), "w_h": (10, 5), "b_h": (10,)}
    both = {"x": (4, 2, 3), "state": [(2, 5)], "update_mask": [(4, 2, 1)], "out": (4, 2, 5), "saved": (56,), **weights}
    assert (forward, read) == ("forward", both | {"last": [(2, 5)]})
    gradients = {f"d_{name}": shape for name, shape in weights.items()} | {"d_x": (4, 2, 3), "d_out": (4, 2, 5)}
    assert (backward, written) == ("backward", both | gradients)


def test_a_step_of_several_phases(paper):
    layer = carousel.Recurrent(ChoGRUCell, 3, 5, device="meta")
    layer(torch.empty(4, 2, 3, device="meta"))
    ((which, read),) = paper.calls
    assert (which, read["x"], sorted(read["weights"])) == ("forward", (4, 2, 15), [(15,), (15, 5)])


def test_gates_and_states(paper):
    layer = carousel.Recurrent(MGUCell, 3, 5, device="meta", backend="fused")
    (record,) = layer.inspect(torch.empty(4, 2, 3, device="meta"))
    assert {name: tuple(kept.shape) for name, kept in record.items()} == dict.fromkeys(("f", "n", "h"), (4, 2, 5))
    ((_, read),) = paper.calls
    assert read["saved"] == (4, 2, 7)


def test_it_says_itself_what_it_can_do(paper):
    def layer(dtype=torch.float32):
        return carousel.Recurrent(MGUCell, 3, 5, device="meta", dtype=dtype)

    assert reason(layer()).reason.startswith("one kernel for all steps; the adjoint keeps 1 values")
    assert reason(layer(torch.bfloat16), dtype=torch.bfloat16).engine == "fused"
    wrong = "the kernel is for float32 and bfloat16, not for torch.float64"
    assert reason(layer(torch.float64), dtype=torch.float64) == ("eager", wrong)
    for error, told in ((Unsupported("no minus on paper"), "MGUCell: no minus on paper"), (BuildError("no ink"),) * 2):
        REGISTRY.forget()
        paper.error = error
        assert reason(layer()) == ("eager", str(told))
    paper.lacks = "no paper is left"
    assert reason(layer()) == ("eager", "no paper is left")


@needs_compiler
def test_each_device_has_kernels_of_its_own(paper):
    for device, calls in (("meta", 1), ("cpu", 1), ("meta", 2)):
        layer = carousel.Recurrent(MGUCell, 3, 5, device=device, backend="fused")
        assert layer(torch.ones(4, 2, 3, device=device))[0].device.type == device
        assert len(paper.calls) == calls


def test_tensors_on_several_devices_are_the_loops(paper):
    layer = carousel.Recurrent(MGUCell, 3, 5, device="meta", backend="fused")
    with pytest.raises(RuntimeError, match="the kernel takes tensors of one device, not cpu and meta"):
        layer(torch.ones(4, 2, 3))
