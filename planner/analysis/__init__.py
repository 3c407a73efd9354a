"""Questions that ask the search again."""
