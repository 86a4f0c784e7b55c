"""Floor 2: what a model costs, as a function of the channels it keeps."""
