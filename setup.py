"""Installs resrep-keras: structured pruning that makes Keras models physically smaller."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (ROOT / "resrep_keras" / "__init__.py").read_text()
).group(1)

EXAMPLES = [
    "tensorflow-datasets",
    "importlib_resources",  # which its downloads import, and which it asks for on old Pythons only
    "scikit-learn",
    "matplotlib",
    "tensorboard",
]
# tfmot asks for distutils, which newer Pythons have from setuptools only.
TFMOT = ["tensorflow-model-optimization", "tf-keras", "setuptools"]

setup(
    name="resrep-keras",
    version=VERSION,
    description="Structured (channel) pruning that makes Keras models physically smaller.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["resrep_keras", "resrep_keras.*"]),
    python_requires=">=3.10",
    install_requires=["tensorflow", "keras>=3.12", "absl-py", "numpy"],
    extras_require={
        "examples": EXAMPLES,
        "onnx": ["onnx", "onnxruntime", "tf2onnx"],
        "openvino": ["openvino"],
        "tfmot": TFMOT,
        "dev": [*EXAMPLES, *TFMOT, "pytest", "pytest-xdist", "ruff", "jax", "hypothesis"],
    },
    entry_points={"console_scripts": ["resrep-keras = resrep_keras.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
