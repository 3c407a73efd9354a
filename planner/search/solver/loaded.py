"""The solver's module, imported without pandas: that is half of the time, and only its functions on series need it."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import Lock
from types import ModuleType

NAME = "ortools.sat.python.cp_model"
_ONE_AT_A_TIME = Lock()


def solver_module() -> ModuleType:
    """`cp_model` of OR-Tools; whoever passes series to it gets pandas then."""
    with _ONE_AT_A_TIME:
        if NAME not in sys.modules and "pandas" not in sys.modules:
            _import_without_pandas()
        return import_module(NAME)


class _Pandas(ModuleType):
    """What that module alone finds as pandas: names for its annotations at first, the real ones later."""

    reading = True

    def __getattr__(self, name: str) -> object:
        if self.reading:
            return type(name, (), {})
        return getattr(import_module("pandas"), name)


def _import_without_pandas() -> None:
    """Run the module's code with an import of its own; where that fails, nothing is left behind."""
    parent = import_module(NAME.rpartition(".")[0])
    spec = find_spec(NAME)
    if spec is None or spec.loader is None:
        return
    module, pandas = module_from_spec(spec), _Pandas("pandas")
    usual: Callable[..., ModuleType] = builtins.__import__

    def imported(name: str, *how: object) -> ModuleType:
        return pandas if name == "pandas" else usual(name, *how)

    vars(module)["__builtins__"] = {**vars(builtins), "__import__": imported}
    sys.modules[NAME] = module
    try:
        spec.loader.exec_module(module)
    except Exception:  # another release may ask more of pandas: the plain import follows
        del sys.modules[NAME]
        return
    pandas.reading = False
    vars(parent)["cp_model"] = module
