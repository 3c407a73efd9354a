"""Leading dense layers of an architecture with experts: they keep another amount than the usual layer.

Recomputation takes the first layers of each chunk (Megatron's method block), so it takes the leading ones first. What
they keep is then not affine in the recomputed layers, but the larger of two affine functions.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from planner.problem.layouts import Floats, Ints

Line: TypeAlias = Literal["first", "second"] | None
LEADING_REBUILT = ", leading layers recomputed"
"""Ends the name of a moment's second line, which holds where a stage recomputes some layer."""


def leading_kept(dense: Floats, recomputed: Ints, chunks: Ints, more: Floats, line: Line) -> Floats:
    """Leading dense layers counted as kept: those that the first chunk's recomputed layers leave. [layers]

    Where they keep no `more` than a usual layer, some are recomputed and some are not, that is counted as none: the
    larger amount. `line` asks for one of the two affine functions, of which the second holds where some layer is
    recomputed.
    """
    left = dense - recomputed / chunks * more * (dense > 0)
    if line is not None:
        return np.asarray(left if line == "first" else left * 0.0)
    return np.asarray(np.where(recomputed > 0, np.maximum(left, 0.0) * more, dense))
