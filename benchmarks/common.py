"""What the benchmarks share."""

import json
import os
import pathlib
import platform
import sys
import threading
import time

import keras
import numpy as np
import psutil

from resrep_keras.common.files import write_text
from resrep_keras.methods.channels.channel_state import ChannelState

RESULTS = pathlib.Path(__file__).parent / "results"


def machine():
    """Where a result comes from."""
    parts = [f"{os.cpu_count()} cores", platform.machine(), f"Keras {keras.__version__}"]
    if keras.backend.backend() == "jax":
        import jax

        parts.append(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}")
    return ", ".join(parts)


def write_result(result, page, name=None):
    """Write JSON and page to the result files of a name, by default that of the benchmark."""
    stem = RESULTS / (name or pathlib.Path(sys.argv[0]).stem)
    write_text(stem.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
    write_text(stem.with_suffix(".md"), page)


def mask_at_random(model, seed=0, share=0.3):
    """Move compactors away from the identity and kill channels; returns how many of how many."""
    generator = np.random.default_rng(seed)
    channel_state = ChannelState(model)
    kept = np.ones(channel_state.graph.num_channels, bool)
    for group in channel_state.groups:
        free = group.channels[~group.pinned]
        kept[free[1:]] = generator.uniform(size=len(free) - 1) > share
    channel_state.set_masks(kept)
    for layer, _ in channel_state.compactors:
        noise = generator.normal(0, 0.02, layer.kernel.shape)
        mask = keras.ops.convert_to_numpy(layer.keep_mask)
        layer.kernel.assign((keras.ops.convert_to_numpy(layer.kernel) + noise) * mask)
    return int((~kept).sum()), len(kept)


class PeakMemory:
    """Largest resident memory of this process while the block runs, above that at its start."""

    def __enter__(self):
        self._process = psutil.Process()
        self._start, self.peak, self._done = self._resident(), 0, False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done = True
        self._thread.join()

    def _watch(self):
        while not self._done:
            self.peak = max(self.peak, self._resident() - self._start)
            time.sleep(0.01)

    def _resident(self):
        return self._process.memory_info().rss
