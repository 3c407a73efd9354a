"""The CP-SAT model. It reads integer tables only, and never sees a GPU, an engine or a formula."""
