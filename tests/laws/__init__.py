"""The laws of pruning, each over the whole zoo."""
