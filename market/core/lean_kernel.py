"""A decorator for kernels that neither make arrays nor keep any."""

from __future__ import annotations

from typing import Any

from numba import njit

_WITHOUT_REFERENCE_COUNTS: dict[str, Any] = {"_nrt": False}

lean_kernel: Any = njit(cache=True, error_model="numpy", **_WITHOUT_REFERENCE_COUNTS)
"""Compile a kernel without numba's counts of array references.

A function that is called for every node or column of a search spends more on counting who holds
its arrays than on its numbers. Without the counts a kernel can read, write and slice the arrays
that it is given; one that makes an array is refused when it is compiled, and so is the option
where a version of numba does not know it. Numbers do not depend on it.
"""
