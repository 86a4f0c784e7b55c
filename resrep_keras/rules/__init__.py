"""What the library knows of each layer of Keras: one family a file, all its answers together.

The questions stand where they are asked. A file answers those that concern its layers:

- `graph.flow.flow`: how channels pass through the layer;
- `graph.flow.activation_of`, `depends_on_channels`: the function it applies last; whether its size
  is fixed by its channels;
- `graph.record.inner_layer`: what it calls at each entry of axis 1;
- `layers.gated.gate_factors`: what gates inside multiply its weights with;
- `surgery.narrow.narrow`: its settings and weights with fewer channels;
- `surgery.channel_weights.producing_variable`, `producing_weights`, `reading_variable`: what makes
  its channels, and what reads them;
- `surgery.rebuild.copy_operation`: a fresh layer of the same configuration;
- `costs.macs.macs`, `costs.activations.runs_in_place`, `costs.file_size.may_be_folded`,
  `costs.latency_model.is_fused`: what it costs.

Importing this package registers all rules.
"""

from resrep_keras.rules import (
    applications,
    arrays,
    attention,
    compactors,
    contractions,
    convolutions,
    costless,
    dense,
    elementwise,
    filters,
    indexing,
    loops,
    merging,
    normalizations,
    ones,
    operations,
    padding,
    pooling,
    preprocessing,
    products,
    recurrent,
    reductions,
    shapes,
    signs,
    tiles,
    tried,
    wrappers,
)
