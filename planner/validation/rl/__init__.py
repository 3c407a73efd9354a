"""Published steps of reinforcement learning: expressed, predicted, scored."""
