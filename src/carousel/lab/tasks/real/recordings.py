"""Data files, checked before use."""

import hashlib
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"
SHA256 = {
    "digits": "671f9ab7556c56c724e254bff018467b344272df9dcd3b05fa43fbc12f660ec6",
    "japanese_vowels": "62d4b26312e501b4d15df8948ca0deca8e9be827dff22bd48a7c678d9d10fe60",
    "electricity": "58811a9e8b3f8aa450ba25f7ce3c25e63f0d0c25b4cec8d173702ac66fdf28dd",
    "sunspots": "cc514bd0b24d419c62424eed1b0db6722f0c9d7d7d9b1328226b5c59dc128b0d",
}
"""Of the files of `DATA`, whose README.md says where they come from."""


def embedded(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file that comes with the package.

    Raises:
        FileNotFoundError, ValueError: as `checked`.
    """
    return checked(DATA / f"{name}.npz", SHA256[name])


def checked(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it holds other bytes than it should.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is damaged or another file: its sha256 is {found}, not {sha256}")
    with np.load(path) as arrays:
        return dict(arrays)
