"""Floor 4: pruning methods, one a file."""
