"""Exported: what `export` has written, and found when it read it back."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Exported(float):
    """A file that `export` has written; `print` it. It is the difference, as a number, itself.

    Args:
        difference: The largest difference of any output value between the model and the file, as a
            share of the largest output value.
        path: The file, or folder.
        format: Its format, in words.
        bytes: Its size, that of all files of a folder.
        compared: What model and file were compared on, in words.
        quality: ``{name: (value of the model, value of the file)}``, the loss and metrics that the
            model is compiled with, on `test_data`; empty without.
        seconds: Median time of a call of the file; `None` where not measured.
        batch_size: Examples of a call that was timed.
        threads: On how many threads; `None` for as many as Keras takes.
        float32_bytes: Size of the same file without quantization; `None` for one without.
        inner_floats: Names of what a file of integers still computes in float32.
    """

    difference: float
    path: pathlib.Path
    format: str
    bytes: int
    compared: str
    quality: dict = dataclasses.field(default_factory=dict)
    seconds: float | None = None
    batch_size: int | None = None
    threads: int | None = None
    float32_bytes: int | None = None
    inner_floats: tuple = ()

    def __new__(cls, difference, *_, **__):
        return super().__new__(cls, difference)

    def __str__(self):
        share = ""
        if self.float32_bytes:
            share = f", {100 * self.bytes / self.float32_bytes:.0f} % of the float32 file"
        apart = f"differ from the model's by at most {self.difference:.1e} of the largest value"
        equal = "are those of the model"
        lines = [
            f"{self.path}: {self.format}, {self.bytes:,} bytes{share}.",
            f"Its outputs {apart if self.difference else equal}, on {self.compared}.",
        ]
        if self.quality:
            told = (f"{n} {_short(f)} (model {_short(m)})" for n, (m, f) in self.quality.items())
            lines.append(f"On test_data: {', '.join(told)}.")
        if self.seconds is not None:
            examples = "1 example" if self.batch_size == 1 else f"{self.batch_size} examples"
            threads = ", on one thread" if self.threads == 1 else ""
            lines.append(f"{1000 * self.seconds:.3g} ms for {examples}{threads}.")
        if self.inner_floats:
            names = ", ".join(self.inner_floats[:3])
            more = ", ..." if len(self.inner_floats) > 3 else ""
            lines.append(f"Computed in float32 still: {len(self.inner_floats)} ({names}{more}).")
        return "\n".join(lines)

    def __repr__(self):
        return f"<Exported {self.path}: {self.bytes:,} bytes, difference {self.difference:.1e}>"


def _short(value):
    return f"{value:.4g}"


def bytes_of(path):
    """The size of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
