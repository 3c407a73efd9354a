"""A question with nothing left to look up, and the choices it leaves open."""
