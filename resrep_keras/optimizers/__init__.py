"""The optimizer wrapper that forgets channels."""
