"""The solver is imported without pandas, and whoever passes series to it finds the real one."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from planner.search.solver.loaded import solver_module
cp_model = solver_module()
from planner.search.solver.selftest import refuse_broken_solver
refuse_broken_solver(cp_model)
print("pandas" in sys.modules)
from ortools.sat.python import cp_model as usual
print(usual is cp_model)
import pandas
model = usual.CpModel()
found = model.new_int_var_series("x", pandas.Index(["a", "b"]), 0, pandas.Series([1, 2], index=["a", "b"]))
model.maximize(sum(found))
solver = usual.CpSolver()
solver.solve(model)
print(type(found) is pandas.Series, solver.values(found).tolist())
"""


def test_no_pandas_until_somebody_asks_for_series() -> None:
    said = subprocess.check_output([sys.executable, "-c", CODE], text=True)
    assert said.split("\n") == ["False", "True", "True [1, 2]", ""]
