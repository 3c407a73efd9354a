"""The order of the suite, what breaks users most first, and what it costs: CPU seconds, printed at its end."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from planner import clock

FIRST = (
    "test_story",
    "test_solver_selftest",
    "test_solver_brute_force",
    "test_memory",
    "test_throughput",
    "test_autograd_witness",
    "test_known_errors",
    "test_laws",
    "test_memory_model",
    "test_cli",
    "test_document",
    "test_docs",
)
"""Main scenario, solver against enumeration, published measurements, laws, errors, documents; the rest follows."""
SHARED = {
    "test_memory": "published runs",
    "test_left_out": "published runs",
    "test_known_errors": "published runs",
    "test_throughput": "published runs",
    "test_litgpt": "published runs",
    **dict.fromkeys(("test_rl", "test_promises"), "published steps"),
    **dict.fromkeys(("test_launch", "test_other_engines", "test_engines_say_no", "test_lint"), "launch files"),
    **dict.fromkeys(("test_because", "test_like"), "launch files"),
    **dict.fromkeys(("test_budget", "test_docs"), "budgets"),
    **dict.fromkeys(("test_floors", "test_safety", "test_autograd_witness"), "our own files"),
    **{name: name for name in (
        "test_solver_brute_force", "test_step_witness", "test_story", "test_door", "test_item_names",
        "test_laws", "test_hostile_inputs", "test_pages", "test_snapshots", "test_rules", "test_witness",
        "test_bounds_hold",
    )},
}  # fmt: skip
"""Files whose tests share what one of them computes: one worker runs them all, so that it is computed once."""
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Which of the workers this is, from 0."""
RARELY = 50_000, 50, 100
"""Objects made, and walks of younger ones, between two walks of the garbage collector."""
SPENT = "cpu_seconds"
TESTS = pytest.StashKey[list[float]]()
"""CPU seconds of each test that ran."""
WHOLE = pytest.StashKey[float]()
"""CPU seconds of all processes: those of the workers, where there are some."""


clock.stretch = 1000.0
"""In this process a limit of a minute is one of 17 hours: no answer of the suite hangs on a clock. Commands that a test
starts as processes of their own keep the time that people have."""


def pytest_collection(session: pytest.Session) -> None:
    """Nothing that is collected is garbage."""
    gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: Any) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Every other worker reads the folders from their end: in a fresh checkout each compiles half of the files and
    finds the other half compiled."""
    report = yield
    if isinstance(collector, pytest.Directory) and WORKER % 2:
        report.result.reverse()
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by the list above and by file, in each worker alike; inside a file the order stays."""
    place = {name: index for index, name in enumerate(FIRST)}
    items.sort(key=lambda item: (place.get(item.path.stem, len(FIRST)), item.path))


def pytest_collection_finish() -> None:
    """What is loaded now lives to the end: the garbage collector need not walk it again and again, and what tests
    make it walks where there is much of it: a twenty-fifth of the time went into thousands of small walks."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share something go to one worker, the largest such groups first; all others one by one."""
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SHARED.get(Path(nodeid.partition("::")[0]).stem, nodeid)

        def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
            """Thousands of groups that have ended are not counted through again after each test."""
            super().mark_test_complete(node, item_index, duration)
            scope = self._split_scope(self.registered_collections[node][item_index])
            if all(self.assigned_work[node][scope].values()):
                del self.assigned_work[node][scope]

    return Sharing(config, log)


def cpu_seconds() -> float:
    """Of this process and of the children that have ended. [s]"""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fixtures count for the first test that needs them."""
    before = cpu_seconds()
    result = yield
    item.config.stash.setdefault(TESTS, []).append(cpu_seconds() - before)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells the process that started it."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[SPENT] = [cpu_seconds(), session.config.stash.get(TESTS, [])]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker spent."""
    spent, tests = getattr(node, "workeroutput", {}).get(SPENT, (0.0, []))
    stash = node.config.stash
    stash[WHOLE] = stash.get(WHOLE, 0.0) + spent
    stash.setdefault(TESTS, []).extend(tests)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What the suite cost, whatever else the machine does: seconds of CPU, not of a clock."""
    tests = sorted(config.stash.get(TESTS, []), reverse=True)
    if tests:
        whole = config.stash.get(WHOLE, None) or cpu_seconds()
        tenth = sum(tests[: max(1, len(tests) // 10)])
        terminalreporter.write_line(
            f"{whole:.0f} CPU seconds, {tenth:.0f} of them in the slowest tenth of {len(tests):,} tests"
        )
