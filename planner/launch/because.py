"""Reasons written into launch files: behind the flag that says a decision, or in the header where no line says it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from planner.analysis.reasons import Reason

WIDTH = 108
FLAGS = {
    "tensor_parallel": "--tensor-model-parallel-size",
    "pipeline_parallel": "--pipeline-model-parallel-size",
    "context_parallel": "--context-parallel-size",
    "expert_parallel": "--expert-model-parallel-size",
    "micro_batch_size": "--micro-batch-size",
    "max_tokens": "--max-tokens-per-gpu",
    "recomputed": "--recompute-num-layers",
}
"""Options of Megatron and of what is built on it; they stand one a line in an array."""


def explained(written: dict[str, str], reasons: Sequence[Reason]) -> dict[str, str]:
    """The files with their reasons as comments; files that hold no comments (JSON) stay as they are."""
    return {name: _with(text, reasons) if text.startswith("#") else text for name, text in written.items()}


def _with(text: str, reasons: Sequence[Reason]) -> str:
    left = []
    for reason in reasons:
        flag = FLAGS.get(reason.decision)
        pattern = rf"(?m)^(  {re.escape(flag)} \S.*)$" if flag else ""
        found = re.search(pattern, text) if flag else None
        if found is None:
            left.append(reason)
        else:
            text = f"{text[: found.end()]}  # {reason.text}{text[found.end() :]}"
    if not left:
        return text
    lines = text.splitlines(keepends=True)
    end = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    words = "Why: " + ". ".join(reason.text for reason in left) + "."
    said = [f"# {line}\n" for line in textwrap.wrap(words, WIDTH, break_long_words=False, break_on_hyphens=False)]
    return "".join([*lines[:end], *said, *lines[end:]])
