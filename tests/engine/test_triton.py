"""The Triton target: its kernels against the loop, under Triton's interpreter where there is no GPU, and what its
compiler says of them."""

import copy
import itertools
import math
import os
import re

import pytest
import torch
import torch.nn.functional as F
from agreement import CATALOGUE, Seeded, assert_same_with_gradients, fill, tensors
from torch.func import vmap

import carousel
from carousel import Detach, Regularization
from carousel.engine.eager import Kinds
from carousel.engine.fused import TARGETS
from carousel.engine.fused.plans import plan
from carousel.engine.fused.trace import trace
from carousel.engine.fused.triton import Triton, build, emit, product
from carousel.engine.fused.triton.launched import Launched
from carousel.engine.registry import REGISTRY

triton = pytest.importorskip("triton")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of what padding holds


@pytest.fixture
def target(monkeypatch):
    """The target: on a GPU, or, where there is none, with the interpreter in place of the compiler."""
    with monkeypatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")
        made = Triton()
    monkeypatch.setitem(TARGETS, "triton", made)
    REGISTRY.forget()
    if torch.cuda.is_available():
        torch.set_default_device("cuda")
    yield made
    torch.set_default_device(None)
    REGISTRY.forget()


def pair(name, *sizes, dtype=torch.float64, **options):
    """The same layer, by Triton and by the loop."""
    cell, more = CATALOGUE[name]
    layer = fill(carousel.Recurrent(cell, *sizes, dtype=dtype, backend="triton", **more, **options))
    eager = copy.deepcopy(layer)
    eager.backend = "eager"
    return layer, eager


def states(layer, *shape, dtype=torch.float64):
    drawn = tuple(torch.rand(*shape, size, dtype=dtype) + 0.1 for size in layer.cell().state_sizes)
    return drawn if len(drawn) > 1 else drawn[0]


OF_TWO = {
    name: getattr(torch, name) for name in ("add", "sub", "rsub", "mul", "div", "remainder", "fmod", "fmax", "fmin")
}
OF_TWO |= {name: getattr(torch, name) for name in ("maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge")}
OF_TWO |= {
    "div_floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "div_trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "clamp_min": torch.maximum,
    "clamp_max": torch.minimum,
    "sigmoid_backward": lambda d, y: d * (1 - y) * y,
    "tanh_backward": lambda d, y: d * (1 - y * y),
    "softplus_backward": lambda d, x: torch.where(x > 20, d, d * x.sigmoid()),
    "threshold_backward": lambda d, x: torch.where(x <= 0.3, 0.0, d),
    **{f"{name}_backward": lambda d, x: torch.where(x.abs() <= 0.3, 0.0, d) for name in ("softshrink", "hardshrink")},
}
TRUTHS = {
    f"{kind}_{op}": getattr(torch, f"logical_{op}") for kind in ("logical", "bitwise") for op in ("and", "or", "xor")
}
CONSTANTS = {"softplus": (1, 20), "softplus_backward": (1, 20), "addcmul": (1,), "add": (1,), "sub": (1,), "rsub": (1,)}
CONSTANTS |= dict.fromkeys(("threshold_backward", "softshrink_backward", "hardshrink_backward"), (0.3,))
OTHERS = {
    "softplus": F.softplus,
    "silu": F.silu,
    "detach": lambda a: a,
    "addcmul": torch.addcmul,
    "lerp": torch.lerp,
    "clamp": torch.clamp,
    "where": lambda a, b, c: torch.where(a != 0, b, c),
    "float": lambda a: (a != 0).double(),
    **{f"{kind}_not": torch.logical_not for kind in ("logical", "bitwise")},
}
EXACT = {"floor", "ceil", "trunc", "round", "remainder", "fmod", "div_floor", "div_trunc", *emit.TRUTHS}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operations(dtype):
    """Each, on numbers of all sizes, within 4 ulp of torch's."""
    few = [0.0, -0.0, 0.3, -0.3, 1.0, -1.0, 2.5, -7.5, 30.0, -1e10, math.inf, -math.inf, math.nan]
    many = [
        *few,
        *(s * x for s in (1, -1) for x in (1e-30, 1e-9, 1e-5, 1e-3, 0.1, 0.49, 0.51, 1.5, 3, 7.3, 20, 60, 1e5, 1e30)),
    ]
    functions = OF_TWO | TRUTHS | OTHERS
    for name, expression in emit.OPERATIONS.items():
        function = functions.get(name) or getattr(torch, name)
        count = 2 if name in {**OF_TWO, **TRUTHS} else 3 if name in ("addcmul", "lerp", "clamp", "where") else 1
        values = {1: many, 2: few, 3: few[:10]}[count]
        given = torch.tensor(list(itertools.product(values, repeat=count)), dtype=dtype)
        given = torch.cat([given, 3 * torch.randn(500, count, dtype=dtype)]).unbind(1)
        logical = name.startswith(("logical", "bitwise"))
        truths = range(count) if logical else range(1) if name in ("where", "float") else ()
        loads = [f"a{k} = tl.load(p{k} + at, mask=at < N, other=0.0){' != 0.0' * (k in truths)}" for k in range(count)]
        real = f"tl.{str(dtype)[6:]}"
        constants = map(str, CONSTANTS.get(name, ()))
        loads += [f"a{count + k} = {emit.constant(text, real)}" for k, text in enumerate(constants)]
        made = expression.format(*(f"a{k}" for k in range(len(loads))), real=real)
        made = f"({made}).to({real})" if name in emit.TRUTHS else made
        lines = [*loads, f"tl.store(p_y + at, {made}, mask=at < N)"]
        pointers = [f"p{k}" for k in range(count)]
        text = f"{emit.head()}\n\n@triton.jit\ndef f({', '.join(pointers)}, p_y, N):\n"
        text += "\n".join(f"    {line}" for line in ["at = tl.program_id(0) * 1024 + tl.arange(0, 1024)", *lines])
        y, given = torch.empty_like(given[0]), [g.contiguous() for g in given]
        build.load(text, True)["f"][(-(-len(y) // 1024),)](*given, y, len(y))
        truth = function(*(g != 0 if logical else g for g in given)).to(dtype)
        limits, size = torch.finfo(dtype), truth.abs()
        size = size + sum(g.abs() for g in given) if count == 3 else size  # of which a difference may be small
        bound = 0 if name in EXACT else 8 * limits.eps * size + 1e3 * limits.tiny  # torch's own has its errors
        same = (y == truth) | (y.isnan() & truth.isnan()) | ((y - truth).abs() <= bound)
        worst = [(*(g[~same][0].item() for g in given), y[~same][0].item())] if not same.all() else []
        assert not worst, (name, worst)


ENGINES = {
    "pointwise": "no unit's step needs another's state",
    "on chip": "on its chip",
    "streamed": "reads U again",
    "several": "reads the matrices again",
    "by steps": "a launch for each",
}
SCHEDULES = (
    ("indrnn", "pointwise"),
    ("lstm", "on chip"),
    ("gru", "streamed"),
    ("gru", "by steps"),
    ("lstm_projected", "several"),
    ("lem", "by steps"),
)
LIMITS = {
    "pointwise": (None, 128),
    "on chip": (None, 128),
    "streamed": (0, 128),
    "by steps": (0, 0),
    "several": (0, 128),
}
"""For which the target takes these for small layers: bytes on a chip, and units of a program that has not so many."""


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue(target, name):
    layer, eager = pair(name, 4, 3)
    x = torch.randn(3, 2, 4, dtype=torch.float64).abs()
    (choice,) = carousel.explain(layer, x)
    assert choice.engine == "triton"
    assert_same_with_gradients(layer, eager, x, states(layer, 1, 2), tolerance=1e-10)


NAMES = {cell.__name__ for cell, _ in CATALOGUE.values()} | {"Cell", "ModuleCell", "ABLATIONS"}
EVERY = CATALOGUE | {name: (getattr(carousel.cells, name), {}) for name in carousel.cells.__all__ if name not in NAMES}
"""All cells there are."""


def step_of(name, size=3, dtype=torch.float64, masks=False):
    """Of a cell of the catalogue, its states' sizes, and its masks: a reset and lengths, or none."""
    cell, options = EVERY[name]
    cell = cell(size, size, **options, device="meta")
    kinds = Kinds(reset=True, update_mask=(1,) * len(cell.states)) if masks else Kinds()
    return trace(cell, kinds, dtype, emit.OPERATIONS, projects=False), cell.state_sizes, kinds


@pytest.mark.parametrize(("name", "schedule"), [*SCHEDULES, ("slstm", "streamed"), ("mgu", "on chip")])
def test_several_programs(target, name, schedule):
    """More sequences, and more places, than one program has; in float32 too."""
    target.on_chip, target.widest = LIMITS[schedule]
    layer, eager = pair(name, 3, 20)
    x = torch.randn(3, 18, 3, dtype=torch.float64)
    (choice,) = carousel.explain(layer, x)
    assert ENGINES[schedule] in choice.reason
    assert "not run on a GPU yet" in choice.reason
    assert_same_with_gradients(layer, eager, x, states(layer, 1, 18), tolerance=1e-10)
    wide, x = eager(x)[0], x.float()
    torch.testing.assert_close(layer.float()(x)[0].double(), wide, rtol=1e-5, atol=1e-5)


NOISE = {"zoneout": 0.3, "recurrent": 0.4, "input": 0.2, "weight": 0.1}
DRAWN = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) < 0.3


@pytest.mark.parametrize("masks", ["all", "lengths", "detached"])
@pytest.mark.parametrize(("name", "schedule"), SCHEDULES)
def test_masks(target, name, schedule, masks):
    target.on_chip, target.widest = LIMITS[schedule]
    call = {"lengths": [5, 1, 3]} | ({} if masks == "lengths" else {"reset": DRAWN.to(torch.get_default_device())})
    options = {"regularization": Regularization(**NOISE)} if masks == "all" else {}
    options |= {"detach": Detach(gates=0.4, carousel=0.5)} if masks == "detached" and name != "indrnn" else {}
    layer, eager = pair(name, 3, 4, 2 if masks == "all" else 1, bidirectional=True, **options)
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    hx = states(layer, 2 * layer.num_layers, 3)
    assert_same_with_gradients(Seeded(layer, **call), Seeded(eager, **call), x, hx, tolerance=1e-10)


@pytest.mark.parametrize(("name", "schedule"), SCHEDULES)
def test_what_is_wanted_of_it(target, name, schedule):
    """Second derivatives, gradients in batches, frozen parts, no gradients, gates and states, norms."""
    target.on_chip, target.widest = LIMITS[schedule]
    layer, eager = pair(name, 3, 4)
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for one in (layer, eager):
        with carousel.gradients.watch(one) as flows:
            torch.autograd.grad(one(x)[0].pow(2).sum(), [x])
        y = one(x)[0]
        first = torch.autograd.grad(y.pow(2).sum(), [x, *one.parameters()], create_graph=True)
        second = torch.autograd.grad(sum(d.pow(2).sum() for d in first), [x, *one.parameters()])
        directions = torch.stack([y.detach(), y.detach().cos()])
        batched = torch.autograd.grad(one(x)[0], [x], directions, is_grads_batched=True)
        with torch.no_grad():
            record = one.inspect(x)
            alone = one(x)
        one.weight_ih_l0.requires_grad_(False)
        one(x.detach())[0].sum().backward()
        one.weight_ih_l0.requires_grad_(True)
        frozen = [p.grad for p in one.parameters()]
        assert one.weight_ih_l0.grad is None
        norms = [flow.log10_norm for flow in flows]
        found.append((first, second, batched, record, tensors(alone), frozen, norms))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "schedule"), [*SCHEDULES, ("lem", "several")])
def test_half_precision(target, name, schedule, dtype):
    """Numbers and gradients are no more than three times as far from float32's as the loop's, which rounds each of its
    operations: the state is a float32."""
    target.on_chip, target.widest = LIMITS[schedule]
    layer, eager = pair(name, 3, 20, dtype=dtype)
    exact = copy.deepcopy(eager).float()
    x = torch.randn(4, 5, 3).to(dtype)
    weight = torch.randn_like(exact(x.float())[0])
    found = []
    for one, given in ((layer, x), (eager, x), (exact, x.float())):
        leaf = given.clone().requires_grad_()
        y = one(leaf)[0]
        gradients = torch.autograd.grad((y.float() * weight).sum(), [leaf, *one.parameters()])
        assert {t.dtype for t in (y, *gradients)} == {given.dtype}
        found.append([t.detach().float() for t in (y, *gradients)])
    for mine, loops, truth in zip(*found, strict=True):
        assert (mine - truth).norm() <= 3 * (loops - truth).norm() + 1e-3 * truth.norm()


class Drift(carousel.Cell):
    """Moves by less at a time than half precision tells from nothing."""

    gates = ("n",)

    def update(self, wx, uh, state):
        return (state[0] + 1e-3 * (wx + uh).sigmoid(),), {}


class DriftAlone(Drift):
    """The same without a product."""

    def hidden_map(self, h):
        return 0.5 * h


class DriftInTwo(DriftAlone):
    """The same of two products."""

    def update(self, wx, uh, state):
        uh = F.linear(F.linear(state[0], self.weight_hh), self.weight_hh, self.bias_hh)
        return super().update(wx, uh, state)


@pytest.mark.parametrize("schedule", LIMITS)
def test_a_state_goes_on_as_float32(target, monkeypatch, schedule):
    """Whoever multiplies; and what a function is compiled for is what it is launched with."""
    target.on_chip, target.widest = LIMITS[schedule]
    launch, given = Launched.launch, set()

    def noted(kernel, name, programs, x, values, *others):
        there = (p for p in kernel.pointers[name] if values.get(p) is not None)
        given.update((name, p, kernel.type(name, p), values[p].dtype) for p in there)
        launch(kernel, name, programs, x, values, *others)

    monkeypatch.setattr(Launched, "launch", noted)
    kinds = {"pointwise": [DriftAlone], "several": [DriftInTwo], "by steps": [Drift, DriftInTwo]}
    for kind in kinds.get(schedule, [Drift]):
        exact = carousel.Recurrent(kind, 3, 4, backend="eager").bfloat16().float()
        layer = carousel.Recurrent(kind, 3, 4, backend="triton")
        layer.load_state_dict(exact.state_dict())
        x, start = torch.randn(60, 2, 3).bfloat16(), torch.ones(1, 2, 4)
        assert ENGINES[schedule] in carousel.explain(layer.bfloat16(), x)[0].reason
        y = layer(x, start.bfloat16())[0]
        torch.testing.assert_close(y.float(), exact(x.float(), start)[0], rtol=2**-8, atol=2**-8)
        y.float().sum().backward()
    assert {made == found for _, _, made, found in given} == {True}, given


@pytest.mark.parametrize(("name", "schedule"), SCHEDULES[:-1])
def test_autocast(target, name, schedule):
    """From and to the loop's types, float64 among them, and within in float32: a GRU's results, which on a CPU
    nothing rounds, are those of float32. The backward pass is within autocast, too."""
    target.on_chip, target.widest = LIMITS[schedule]
    layer, eager = pair(name, 3, 5)
    x, kind = torch.randn(5, 3, 3, dtype=torch.float64), torch.float16
    reset = DRAWN.to(x.device)

    def run(one, dtype, enabled=True):
        one = copy.deepcopy(one).to(torch.promote_types(dtype, torch.float32))
        leaf = x.to(dtype).requires_grad_()
        with torch.autocast(x.device.type, kind, enabled=enabled):
            assert carousel.explain(one, leaf, reset=reset)[0].engine == one.backend
            y = tensors(one(leaf, reset=reset))
            loss = sum(t.double().cos().sum() for t in y)
            return [*y, *torch.autograd.grad(loss, [leaf, *one.parameters()])]

    exact = run(eager, torch.float64, enabled=False)
    for dtype in (torch.float64, torch.float32, kind):
        for mine, its, truth in zip(run(layer, dtype), run(eager, dtype), exact, strict=True):
            assert mine.dtype == its.dtype
            whole = dtype == torch.float64 or (dtype != kind and name == "gru" and x.is_cpu)
            bound = 2 * torch.finfo(dtype if whole else kind).eps * (32 if whole else 1)
            assert (mine.double() - truth).norm() <= bound * truth.norm()


@pytest.mark.parametrize("schedule", ["several", "by steps"])
@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (carousel.cells.SLSTMCell, {"heads": 2}),
        (carousel.cells.LRUCell, {}),
        (carousel.cells.FastGRNNCell, {}),
        (carousel.cells.LSTMVariantCell, {"layer_norm": True}),
    ],
)
def test_several_products(target, cell, options, schedule):
    """Blocks of a matrix, vectors of several widths, sums over them, and what torch does once."""
    target.on_chip, target.widest = LIMITS[schedule]
    layer = fill(carousel.Recurrent(cell, 3, 4, dtype=torch.float64, backend="triton", **options))
    eager = copy.deepcopy(layer)
    eager.backend = "eager"
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    assert_same_with_gradients(layer, eager, x, states(layer, 1, 2), tolerance=1e-10)


@pytest.mark.parametrize(("units", "schedule"), [(128, "several"), (129, "by steps")])
def test_how_wide_one_program_is(target, units, schedule):
    layer = carousel.Recurrent(carousel.cells.LEMCell, 3, units, backend="triton")
    (choice,) = carousel.explain(layer, torch.randn(3, 2, 3))
    assert ENGINES[schedule] in choice.reason


@pytest.mark.parametrize(("name", "schedule"), SCHEDULES)
def test_a_source_begins_with_what_its_pointers_lead_to(target, name, schedule):
    target.on_chip, target.widest = LIMITS[schedule]
    step, sizes, kinds = step_of(name, masks=True)
    kernel = target.kernel(step, torch.float64, 3, sizes, kinds.update_mask)
    told = dict(re.findall(r"^# (\w+)(?: = \d+)?: (.+)$", kernel.sources["both"], re.MULTILINE))
    pointers = {p.rstrip("0123456789") for names in kernel.pointers.values() for p in names}
    assert pointers <= told.keys()
    counts = {word for p in pointers for word in re.findall(r"\b[A-Z]+\b", told[p])}
    assert counts - {*"TBUW"} <= told.keys() >= {"H"}


def test_transforms_and_compilers(target):
    layer, eager = pair("min_gru", 3, 4, 2, bidirectional=True)
    x = torch.randn(5, 3, 2, 3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"a transform of torch.func \(vmap"):
        vmap(lambda x: layer(x)[0])(x)
    compiled, found = torch.compile(layer, backend="aot_eager", fullgraph=True), []
    for one in (compiled, eager):
        y = tensors(one(x[0]))
        found.append([*y, *torch.autograd.grad(sum(t.cos().sum() for t in y), list(one.parameters()))])
    torch.testing.assert_close(*found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of what there is without a GPU")
def test_it_is_asked_for_by_name(target, monkeypatch):
    x = torch.randn(3, 2, 3)

    def choice(**options):
        return carousel.explain(carousel.Recurrent(carousel.cells.MinGRUCell, 3, 4, **options), x)[0]

    assert choice().engine != "triton"
    assert choice(backend="triton").reason.startswith("with Triton, in one launch for all steps")
    with torch.autocast("cpu", torch.bfloat16):
        assert choice(backend="triton").reason.startswith("autocast is on, and the kernel computes in float32: with")
    monkeypatch.setattr(target, "lacks", "Triton is missing")
    assert choice(backend="triton") == ("eager", "Triton is missing")
    monkeypatch.setitem(TARGETS, "triton", Triton())
    assert choice(backend="triton") == ("eager", "the kernel is for CUDA, not for cpu")
    with pytest.raises(RuntimeError, match="backend='triton' cannot run this: the kernel is for CUDA, not for cpu"):
        carousel.GRU(3, 4, backend="triton")(x)


class Hopper:
    """As much of a driver as Triton asks before it launches."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return triton.backends.compiler.GPUTarget("cuda", 90, 32)


def test_compiled_before_the_first_call(monkeypatch, tmp_path, caplog):
    """What Triton refuses, or the chip has no room for, is found when the kernel is made, as on a CPU."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(triton.runtime.driver, "_active", Hopper())
    target = Triton()
    target.on_chip = 227 * 1024
    monkeypatch.setitem(TARGETS, "triton", target)

    def planned(cell):
        REGISTRY.forget()
        return plan(cell(3, 4), "triton", torch.bfloat16, Kinds(reset=True))

    key, reason = planned(carousel.cells.MinGRUCell)
    assert reason.startswith("with Triton, in one launch for all steps")
    made = REGISTRY.kernels[key].kernel
    assert all(len(made.functions[name].device_caches[0][0]) == 1 for name in made.pointers)
    monkeypatch.setitem(emit.OPERATIONS, "sigmoid", "nonsense({0})")
    refused = "Triton refuses the kernel: CompilationError: NameError('nonsense is not defined')"
    assert [planned(carousel.cells.MinGRUCell) for _ in range(2)] == [("", refused)] * 2
    target.on_chip = 1
    key, reason = planned(carousel.RNNCell)
    assert not key
    assert re.fullmatch(r"the kernel takes \d+ bytes of a chip that has 1", reason)
    assert caplog.messages == [f"carousel runs eagerly: {why}" for why in (refused, reason)]
    REGISTRY.forget()


def compiled(kernel, name: str, capability: int, precision: str, log):
    """What Triton's compiler makes of a function for a kind of GPU: bytes on the chip, and what ptxas says of it."""
    function = kernel.functions[name]
    flags = {"SAVE": True, "D_OUT": True, "NORMS": False, "PRECISION": precision}
    kinds = {p: "i32" if p in "TB" else "constexpr" for p in function.arg_names}
    kinds |= {f"p_{p}": POINTERS[kernel.type(name, p)] for p in kernel.pointers[name]}
    aligned = {(k,): [["tt.divisibility", 16]] for k, kind in enumerate(kinds.values()) if kind[0] == "*"}
    flags = {p: flags[p] for p, kind in kinds.items() if kind == "constexpr"}
    written = triton.compiler.ASTSource(function, kinds, flags, aligned)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    made = triton.compile(written, target=target, options=kernel.options)
    said = log.readouterr().out
    used, spilled = (int(re.search(form, said)[1]) for form in (r"Used (\d+) registers", r"(\d+) bytes spill stores"))
    return made.metadata.shared, used, spilled


POINTERS = {
    torch.uint8: "*u8",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
}
HOPPER, AMPERE = (90, 227 * 1024), (80, 163 * 1024)
DENSE = ("lstm", "gru", "mgu", "cfc", "slstm")  # the others of this form are like one of these
COMPILED = [
    *((name, 64, "on chip", HOPPER, "float32") for name in DENSE),
    *((name, 64, "pointwise", HOPPER, "float32") for name in ("indrnn", "min_gru")),
    ("rnn", 128, "on chip", HOPPER, "float32"),
    ("gru", 16, "on chip", HOPPER, "float64"),
    ("lstm", 32, "on chip", AMPERE, "float32"),
    ("lstm", 128, "streamed", HOPPER, "float32"),
    ("gru", 100, "streamed", AMPERE, "float32"),
    ("slstm", 200, "by steps", AMPERE, "float32"),
    ("lem", 128, "several", HOPPER, "float32"),
    ("mgu", 64, "on chip", AMPERE, "bfloat16"),
    ("cho_gru", 100, "several", AMPERE, "float32"),
    ("lstm_layer_norm", 32, "several", HOPPER, "float32"),
    ("lem", 1024, "by steps", HOPPER, "float32"),
    ("min_gru", 64, "pointwise", AMPERE, "float32"),
]
if os.environ.get("COMPILE") == "all":  # which takes minutes
    COMPILED = list(itertools.product(EVERY, (64, 256), [None], (HOPPER, AMPERE), ["float32"]))


SPILLED = {"on chip": 64, "streamed": 64, "several": 128}
"""Bytes at most, of a thread; none where a program does one step, or has no product."""


@pytest.mark.parametrize(("name", "units", "schedule", "gpu", "dtype"), COMPILED)
def test_compiled_for_gpus(monkeypatch, tmp_path, capfd, name, units, schedule, gpu, dtype):
    """No more of a chip than there is, hardly a register spilled."""
    (capability, most), dtype = gpu, getattr(torch, dtype)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    target = Triton()
    target.on_chip = most
    step, sizes, kinds = step_of(name, units, dtype, masks=True)
    kernel = target.kernel(step, dtype, units, sizes, kinds.update_mask)
    schedule = schedule or kernel.schedule
    assert kernel.schedule == schedule
    room = product.room(len(kernel.step.d_uh), units, dtype) if schedule == "on chip" else most
    with triton.knobs.nvidia.scope():
        triton.knobs.nvidia.dump_ptxas_log = True
        for function in kernel.pointers:
            precision = {torch.float64: "ieee", torch.float32: "tf32x3"}.get(dtype, "tf32")
            shared, registers, spilled = compiled(kernel, function, capability, precision, capfd)
            assert shared <= room <= most
            assert registers <= (80 if schedule == "pointwise" else 255)
            assert spilled <= SPILLED.get(schedule, 0)
