"""Names of a scenario looked up in a catalog, every one that does not exist gathered."""

from __future__ import annotations

from typing import Any

from planner.errors import InputError, Mistake
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.inputs.examples import beside


class Names:
    """Looks names up and gathers every one that does not exist."""

    def __init__(self, document: Document, catalog: Catalog) -> None:
        self.document, self.catalog = document, catalog
        self.wrong: list[Mistake] = []

    def find(self, kind: str, name: str, *path: str | int) -> Any:
        """The entry, or None and one more fault."""
        try:
            return self.catalog.find(kind, name, self.document.place(path), beside(self.document.name, "."))
        except InputError as error:
            self.wrong.extend(error.problems)
            return None
