"""Floor 2: makes new models out of old ones, and never trains one."""
