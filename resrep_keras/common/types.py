"""What arguments of public functions may be, for type checkers."""

import os
import typing

# Arrays or tensors in the structure that a model is called with, the examples first.
Arrays: typing.TypeAlias = typing.Any
# The same, a pair of them and labels, or a data set of batches.
Data: typing.TypeAlias = typing.Any
Path: typing.TypeAlias = str | os.PathLike[str]
# Sizes without the batch: of one input, or a list or dict of those of several.
InputShape: typing.TypeAlias = tuple | list | dict | None
