"""Figures of one's own machine and runs, put in place of the catalog's."""
