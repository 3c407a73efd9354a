"""Published memory measurements: expressed, predicted, scored."""
