"""A run held against its plan: logs, samples and memory snapshots."""
