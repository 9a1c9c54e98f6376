"""How settings are called, ordered and drawn, the same in every table and figure of a report."""

import re
from collections.abc import Iterable

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from .records import value, varied

# Okabe & Ito's colours, told apart in black and white by the line and the marker.
STYLES = {
    "rnn": {"color": "#D55E00", "linestyle": "-", "marker": "o"},
    "lstm": {"color": "#0072B2", "linestyle": "-", "marker": "s"},
    "nn_lstm": {"color": "#000000", "linestyle": ":", "marker": "x"},
    "lstm_forget1": {"color": "#56B4E9", "linestyle": "--", "marker": "^"},
    "lstm_chrono": {"color": "#009E73", "linestyle": "-.", "marker": "D"},
    "gru": {"color": "#CC79A7", "linestyle": "-", "marker": "v"},
    "nn_gru": {"color": "#7F3F6A", "linestyle": ":", "marker": "+"},
    "nn_rnn": {"color": "#7A3600", "linestyle": ":", "marker": "*"},
    "rnn_orthogonal": {"color": "#E69F00", "linestyle": "--", "marker": "P"},
    "mgu": {"color": "#117733", "linestyle": "-.", "marker": "<"},
    "janet": {"color": "#332288", "linestyle": "--", "marker": ">"},
    "indrnn": {"color": "#999933", "linestyle": ":", "marker": "h"},
}
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 4)))
MARKERS = "osD^vP<>Xh*"
NAMES = {
    "rnn": "RNN",
    "rnn_orthogonal": "RNN, orthogonal",
    "lstm": "LSTM",
    "lstm_forget1": "LSTM, forget bias 1",
    "lstm_chrono": "LSTM, chrono",
    "lstm_peephole": "LSTM, peephole",
    "lstm_coupled": "LSTM, coupled gates",
    "lstm_layer_norm": "LSTM, layer norm",
    "gru": "GRU",
    "gru_chrono": "GRU, chrono",
    "mgu": "MGU",
    "mgu_chrono": "MGU, chrono",
    "janet": "JANET",
    "janet_chrono": "JANET, chrono",
    "indrnn": "IndRNN",
    "highway": "highway RNN",
    "cho_gru": "GRU of 2014",
    "ugrnn": "UGRNN",
    "fast_grnn": "FastGRNN",
    "multiplicative_lstm": "LSTM, multiplicative",
    "phased_lstm": "LSTM, phased",
    "diagonal_gru": "GRU, diagonal",
    "diagonal_lstm": "LSTM, diagonal",
    "min_gru": "minGRU",
    "min_lstm": "minLSTM",
    "sru": "SRU",
    "slstm": "sLSTM",
    "rg_lru": "RG-LRU",
    "lru": "LRU",
    "lem": "LEM",
    "cornn": "coRNN",
    "unicornn": "UnICORNN",
    "cfc": "CfC",
    "nn_rnn": "nn.RNN",
    "nn_lstm": "nn.LSTM",
    "nn_gru": "nn.GRU",
}
"""What the models are called in figures; any other by its own name."""
NUMBER = re.compile(r"((?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


Style = dict[str, dict]


def named(label: str) -> str:
    """A label as figures show it: the model by its name, and what else varies as it is."""
    model, _, rest = label.partition(" ")
    return " ".join(filter(None, (NAMES.get(model, model), rest)))


def by_size(word: str) -> list[str | float]:
    """A key to sort words by in which numbers count as numbers: h=4 before h=16."""
    return [float(part) if k % 2 else part for k, part in enumerate(NUMBER.split(word))]


def ordered(groups: Iterable[tuple]) -> list[tuple]:
    """What groupby gives, in the order of the groups' names."""
    return sorted(groups, key=lambda group: [by_size(str(x)) for x in np.atleast_1d(np.array(group[0], object))])


def styles(labels: Iterable[str]) -> Style:
    """A look for each label, in their order: a known model's own, and for others one that no other label has."""
    labels = sorted(set(labels))
    taken = [STYLES[label] for label in labels if label in STYLES]
    colors = [matplotlib.colormaps[name](k) for k in range(20) for name in ("tab20b", "tab20")]
    others = (
        {"color": to_hex(colors[7 * k % 40]), "linestyle": LINES[k % 7], "marker": MARKERS[k % 11]}
        for k in range(40 * 7 * 11)
    )
    fresh = (look for look in others if look not in taken)
    style = {label: STYLES[label] if label in STYLES else next(fresh) for label in labels}
    return {label: style[label] for label in sorted(style, key=by_size)}


def looks(results: pd.DataFrame) -> Style:
    """A look for each label of a table of runs, made once for a report.

    Where two things vary, the colour tells one and the line the other: colours for the models, or else, from dark to
    bright, for what has more values.
    """
    factors = ["model"] * (results["model"].nunique() > 1) + varied(results)
    settings = results.drop_duplicates("label").set_index("label")
    if len(factors) != 2 or settings[factors].isna().any(axis=None):
        return styles(settings.index)
    first, second = sorted(factors, key=lambda f: (f != "model", -results[f].astype(str).nunique()))
    shades, lines = levels(results[first]), levels(results[second])
    if len(lines) > len(LINES):
        return styles(settings.index)
    if first == "model":
        colors = {model: look["color"] for model, look in styles(results["model"]).items()}
    else:
        colors = dict(zip(shades, matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(shades))), strict=True))
        colors = {level: to_hex(color) for level, color in colors.items()}
    return {
        label: {
            "color": colors[run[first] if first == "model" else value(run[first])],
            "linestyle": LINES[lines.index(value(run[second]))],
            "marker": MARKERS[lines.index(value(run[second]))],
        }
        for label, run in sorted(settings.iterrows(), key=lambda pair: by_size(pair[0]))
    }


def levels(column: pd.Series) -> list[str]:
    """The values of a factor, numbers by size, as words."""
    return sorted({value(x) for x in column}, key=by_size)


def few(words: list[str]) -> str:
    """Words in a line, or how many there are."""
    return ", ".join(words) if len(words) < 9 else f"{len(words)} values"
