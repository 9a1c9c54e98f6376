"""What a cell and a layer have in common as modules of torch: their weights, saved, copied or refreshed, and their
options."""

from inspect import Parameter, signature
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

M = TypeVar("M", bound=nn.Module)


class LoadsFromTorch(nn.Module):
    """Loads a state_dict of torch's counterpart: what torch's does not have keeps its value, if none of it is there. A
    weight of one number for each unit, (H, 1), may have been saved as (H,)."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name, parameter in self._parameters.items():
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and parameter is not None and parameter.shape == (*saved.shape, 1):
                state_dict[prefix + name] = saved.unsqueeze(-1)
        told = (missing_keys, unexpected_keys, error_msgs)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *told)
        torchs = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        additions = {prefix + name for name in self._parameters if not name.startswith(torchs)}
        if not additions & state_dict.keys():
            missing_keys[:] = [key for key in missing_keys if key not in additions]


REFRESHERS = (WeightNorm, SpectralNorm, BasePruningMethod)
"""Hooks that compute a weight before each forward pass and keep it in an attribute of the module."""


def view_of(module: M) -> M:
    """Another module of the same contents, to set attributes of. (`copy.copy` refuses one that is parametrized.)"""
    view = module.__new__(type(module))
    view.__dict__.update(module.__dict__)
    return view


def refreshed(module: M) -> M:
    """The module with its weights as such hooks would set them for a call now; the module itself is left alone."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, REFRESHERS)]
    if not hooks:
        return module
    view = view_of(module)
    view._buffers = {name: None if t is None else t.clone() for name, t in module._buffers.items()}
    for hook in hooks:
        hook(view, ())
    return view


def put(module: nn.Module, name: str, value: Tensor) -> None:
    """Set a weight's numbers where they are kept: in the module, a parametrization, or what such a hook reads."""
    if is_parametrized(module, name):
        setattr(module, name, value)
    elif name + "_orig" in module._parameters:
        getattr(module, name + "_orig").data.copy_(value)
    elif name + "_v" in module._parameters:
        hooks = module._forward_pre_hooks.values()
        (dim,) = (hook.dim for hook in hooks if isinstance(hook, WeightNorm) and hook.name == name)
        getattr(module, name + "_v").data.copy_(value)
        getattr(module, name + "_g").data.copy_(torch.norm_except_dim(value, 2, dim))
    else:
        getattr(module, name).data.copy_(value)


def fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a module copies of these as parameters: what is frozen stays frozen, what is tied stays tied."""
    copies = {id(t): nn.Parameter(t.detach().clone(), t.requires_grad) for t in tensors.values()}
    for name, tensor in tensors.items():
        setattr(module, name, copies[id(tensor)])


def options_of(kind: type[nn.Module]) -> dict[str, Parameter]:
    """What the constructor takes by name, with what it hands on to those of our classes that it extends."""
    found: dict[str, Parameter] = {}
    for base in kind.__mro__:
        if base.__module__.startswith("torch."):
            break
        if "__init__" in vars(base):
            given = list(signature(base.__init__).parameters.values())[1:]
            found = {p.name: p for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} | found
            if not any(p.kind is p.VAR_KEYWORD for p in given):
                break
    return found


def show_options(module: nn.Module) -> list[str]:
    """Those options that are kept under their names and are not what they are by default, as name=value."""
    hidden = ("input_size", "hidden_size", "device", "dtype")
    shown = {name: p.default for name, p in options_of(type(module)).items() if name not in hidden}
    values = {name: getattr(module, name) for name in shown if hasattr(module, name)}
    return [f"{name}={value}" for name, value in values.items() if repr(value) != repr(shown[name])]
