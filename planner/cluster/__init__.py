"""Machines: the graph of a node, a cluster of them, links and collectives."""
