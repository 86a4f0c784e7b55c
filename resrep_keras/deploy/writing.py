"""Writing: a file is made, run beside its model, judged and timed, and only then kept."""

import functools
import pathlib
import sys
import tempfile

from resrep_keras.common.files import write
from resrep_keras.common.progress import in_sight
from resrep_keras.common.retracing import quiet_about_tracing
from resrep_keras.costs.latency import median_seconds
from resrep_keras.deploy.exported import Exported, bytes_of
from resrep_keras.deploy.judge import judged
from resrep_keras.deploy.reading import answer, answer_all, apart, in_batches, outputs_of
from resrep_keras.deploy.samples import chunks, first, fixed_batch, length_of, single_rows
from resrep_keras.methods.certificate import tolerance_of
from resrep_keras.surgery.forward import example_inputs
from resrep_keras.surgery.heads import UNKNOWN
from resrep_keras.tflite.quantization import QUANTIZATIONS
from resrep_keras.tflite.signature import signature_of

COMPARED = 32  # examples of data
CALIBRATED = 500  # examples; more tell nothing new of ranges
RANDOM = "random inputs"


class Writing:
    """One file of a model.

    Args:
        model: The model.
        form: The `Format`.
        path: Where it goes.
        settings: What `export` was told of the format, ``{name: value}``.
        data: ``{argument: value}`` of what was given to compare, judge and calibrate on.
        input_shape: See `export`.
    """

    def __init__(self, model, form, path, settings, data, input_shape):
        self.model, self.form, self.path, self.data = model, form, path, data
        self.settings = dict(settings)
        self.quantization = settings.get("quantization")
        self.written = form.prepare(model)
        self.size = fixed_batch(model)  # of a batch that the file takes; `None` for any
        if self.size is None and not form.is_open:
            self.size = settings.get("batch_size", 1)
        self.inputs, self.compared = self._examples(input_shape)
        if self._is_calibrated:
            self.settings["rows"] = self._rows()

    @property
    def _is_calibrated(self):
        return self.quantization is not None and QUANTIZATIONS[self.quantization].is_calibrated

    def _examples(self, input_shape):
        """Inputs to compare on, and what they are in words."""
        data = dict(self.data)
        if isinstance(data.get("test_data"), (tuple, list)):
            data["test_data"] = data["test_data"][0]
        for name, given in data.items():
            if given is not None:
                return first(self.model, given, COMPARED, name), name
        size = self.size or 2
        return example_inputs(self.model, size, input_shape=input_shape), RANDOM

    def _rows(self):
        """A function that yields examples to calibrate on; what is wrong with them is told now."""
        signature = signature_of(self.written)
        given = self.data["calibration_data"]
        rows = list(single_rows(self.model, given, CALIBRATED, "calibration_data"))
        return lambda: (signature.arrays(row) for row in in_sight(rows, "Calibrating"))

    def __call__(self, tolerance=None, latency=False):
        """Write the file; returns an `Exported`.

        Args:
            tolerance, latency: See `export`.

        Raises:
            ValueError: It cannot be written, or not be kept.
        """
        expected = in_batches(self._own(self.written), self.inputs, self.size)

        def read(fresh):
            runner = self.form.open(fresh, self.written)
            with quiet_about_tracing():
                return self._found(fresh, runner, expected, tolerance, latency)

        return write(
            self.path,
            lambda fresh: self.form.write(self.written, fresh, **self.settings),
            read,
            folder=self.form.may_replace is not None,
            may_replace=self.form.may_replace,
        )

    def _own(self, model):
        return functools.partial(outputs_of, model)

    def _found(self, fresh, runner, expected, tolerance, latency):
        found = in_batches(functools.partial(answer, runner), self.inputs, self.size)
        self._check(apart(expected, found), tolerance)
        if self.written is not self.model:
            expected = in_batches(self._own(self.model), self.inputs, self.size)
        test_data, quality = self.data.get("test_data"), {}
        if test_data is not None:
            file = functools.partial(answer_all, runner, size=self.size)
            quality = judged(self.model, file, test_data, self._own(self.model))
        return Exported(
            apart(expected, found).relative,
            path=self.path,
            format=self._words(),
            bytes=bytes_of(fresh),
            compared=self._compared_on(),
            quality=quality,
            seconds=self._seconds(runner) if latency else None,
            batch_size=(self.size or 1) if latency else None,
            threads=self.form.threads,
            float32_bytes=self._float32_bytes(),
            inner_floats=runner.inner_floats() if self._is_calibrated else (),
        )

    def _compared_on(self):
        if self.compared == RANDOM:
            return RANDOM
        return f"{length_of(self.inputs)} examples of {self.compared}"

    def _words(self):
        told = [self.quantization, self.settings.get("inference_type")]
        ends = f"{told[1]} inputs and outputs" if told[1] else None
        return ", ".join(filter(None, [self.form.name, told[0], ends]))

    def _seconds(self, runner):
        runner.set_inputs(next(chunks(self.inputs, self.size or 1))[0])
        return median_seconds([runner.invoke])[0]

    def _float32_bytes(self):
        if self.quantization is None:
            return None
        others = {k: v for k, v in self.settings.items() if k in ("sparse", "batch_size")}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "float32"
            self.form.write(self.written, path, **others)
            return bytes_of(path)

    def _check(self, found, tolerance):
        model, form = self.written, self.form
        if found is UNKNOWN:
            raise ValueError(
                f"The {form.name} for '{self.path}' cannot be compared with model '{model.name}': "
                f"an output of both is nothing but not-a-number on {self.compared}. Give data that "
                "the model is made for; where it is not a number on these either, training has "
                "diverged. Nothing is kept; what stood there is."
            )
        limit, why = tolerance, "more than the tolerance"
        if tolerance is None and self.quantization is not None:
            limit, why = sys.float_info.max, "a number that its types do not hold"
        elif tolerance is None:
            limit = max(form.refused, tolerance_of(model))
            why = (
                f"up to {limit:.2g} can be rounding. The cause is a layer that computes otherwise "
                "when it is loaded or converted, such as one whose get_config() forgets an argument"
            )
        if not found.relative <= limit:
            raise ValueError(
                f"The {form.name} that was written for '{self.path}', read back, differs from "
                f"model '{model.name}' by {found.relative:.2g} of the largest output: {why}. It is "
                "not kept; what stood there is."
            )
