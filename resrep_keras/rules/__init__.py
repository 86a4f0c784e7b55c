"""What the library knows of each kind of layer; importing it registers all rules."""

from resrep_keras.rules import (
    compactors,
    narrow_sequences,
    narrow_shapes,
    operations,
    sequences,
    shapes,
    weights,
)
