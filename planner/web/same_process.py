"""Answers without other processes: for tests, and for pages that are made once."""

from __future__ import annotations

import json

from planner.web.answers import Answer, Asked
from planner.web.asked import answer
from planner.web.workers import Workers


class SameProcess(Workers):
    """Workers that answer where they are asked, one question after another."""

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    async def ask(self, kind: str, asked: Asked) -> Answer:
        """The answer, as it would come out of a pipe."""
        self.counts.asked += 1
        found: Answer = json.loads(json.dumps(answer(kind, asked, self.limits.solve_seconds), allow_nan=False))
        self.counts.solved += 1
        return found
