"""Formulas applied item by item: every total is the sum of a ledger, and there is no second bookkeeping."""
