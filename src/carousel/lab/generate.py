"""Text continued by a trained model."""

import argparse
import os
import sys
import warnings

from .module import SequenceModule
from .records import names
from .saved import load, settle
from .tasks import Text


def continued(module: SequenceModule, prompt: str, length: int = 200, temperature: float = 0.8, seed: int = 0) -> str:
    """What a model that was trained on text makes follow on `prompt`; arguments and errors as in `Text.continued`.

    Raises:
        ValueError: the model's task is no text.
    """
    if not isinstance(module.task, Text):
        raise ValueError(f"{type(module.task).__name__} is no task of text: nothing can be continued")
    tokens = module.task.tokenize(prompt)
    if unknown := sorted({t for t, k in zip(tokens, module.task.encode(prompt).tolist(), strict=True) if k == 0}):
        warnings.warn(f"not in the text that it was trained on, and read as unknown: {names(unknown)}", stacklevel=2)
    return module.task.continued(module.predictor(), prompt, length, temperature, seed)


def main() -> None:
    """Continue a text with the model of a run."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", help="the folder of a run of a task of text, outputs/runs/<one>")
    parser.add_argument("--prompt", required=True, help="how the text begins")
    parser.add_argument("--length", type=int, default=200, help="characters, or words, that follow")
    parser.add_argument(
        "--temperature", type=float, default=0.8, help="1: as learnt; less: less daring; 0: the likeliest"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", choices=("best", "last"), help="by default the one that was tested")
    parser.add_argument("--trust", metavar="PATH", action="append", default=[], help="of a class of yours, to import")
    arguments = parser.parse_args()
    sys.path.append(os.getcwd())  # where cells of one's own are
    try:
        module = load(arguments.run, arguments.checkpoint, arguments.trust)
        settle(module.configuration["threads"])
        text = continued(module, arguments.prompt, arguments.length, arguments.temperature, arguments.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    between = module.task.between if isinstance(module.task, Text) else ""
    print(arguments.prompt + between + text)
