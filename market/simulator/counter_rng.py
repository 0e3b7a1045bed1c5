"""Random numbers by hashing: one number for each key and purpose, whatever else is drawn.

No generator is carried along, so any part of a population can be drawn in any order and alone.

References
----------
Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators", for the hash.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Constants of splitmix64; numba mixes uint64 with int64 to float64, so every operand is uint64.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@njit(cache=True)
def mix(key: np.uint64, value: np.uint64) -> np.uint64:
    """Absorb a value into a key: one step of splitmix64."""
    z = (key ^ value) + _GAMMA
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@njit(cache=True)
def slot_key(seed: np.uint64, slot: np.uint64) -> np.uint64:
    """Key of everything drawn for a slot."""
    return mix(mix(np.uint64(0), seed), slot)


@njit(cache=True)
def uniform(key: np.uint64, purpose: np.uint64, index: np.uint64) -> float:
    """A uniform number in the open interval (0, 1), from the upper 53 bits of the hash."""
    return (float(mix(mix(key, purpose), index) >> _S11) + 0.5) / 9007199254740992.0
