"""One module for each parallel axis: which degrees are worth trying, and which rules bind them."""
