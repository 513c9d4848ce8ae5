"""Which numbers are learned, in which order: what makes two vehicles' changes mean the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Parameter:
    """One tensor of float32."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """Parameters in their order, each in C order, one behind the other: a vector."""

    parameters: tuple[Parameter, ...]

    @property
    def size(self) -> int:
        return sum(parameter.size for parameter in self.parameters)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over one line a parameter: its name and its sizes."""
        lines = (f"{one.name} float32 {','.join(map(str, one.shape))}\n" for one in self.parameters)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def split(self, vector: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Views of vector (size,) by name, each in its own shape."""
        parts, at = {}, 0
        for one in self.parameters:
            parts[one.name] = vector[at : at + one.size].reshape(one.shape)
            at += one.size
        return parts

    def joined(self, parts: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """(size,) float32."""
        return self.flat([parts[one.name] for one in self.parameters])

    def flat(self, arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The same of arrays in the layout's order."""
        return np.concatenate([array.reshape(-1) for array in arrays]).astype(np.float32)
