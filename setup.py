"""Installs resrep-keras: structured pruning that makes Keras models physically smaller."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (ROOT / "resrep_keras" / "__init__.py").read_text()
).group(1)

EXAMPLES = [
    "absl-py",
    "tensorflow-datasets",
    "importlib_resources",  # which its downloads import, and which it asks for on old Pythons only
    "scikit-learn",
    "matplotlib",
    "tensorboard",
]
DOCS = ["sphinx", "myst-parser", "furo"]
REPORTS = ["jinja2", "matplotlib", "scipy>=1.12"]  # pages with figures, and pictures of models
# tfmot asks for distutils, which newer Pythons have from setuptools only.
TFMOT = ["tensorflow-model-optimization", "tf-keras", "setuptools"]

setup(
    name="resrep-keras",
    version=VERSION,
    description="Structured (channel) pruning that makes Keras models physically smaller.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The resrep_keras authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["resrep_keras", "resrep_keras.*"]),
    package_data={"resrep_keras": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=["tensorflow", "keras>=3.12", "numpy", "rich"],
    extras_require={
        "examples": [*EXAMPLES, *REPORTS],
        "reports": REPORTS,
        "onnx": ["onnx", "onnxruntime", "tf2onnx"],
        "openvino": ["openvino"],
        "tfmot": TFMOT,
        "docs": DOCS,
        "dev": [
            *EXAMPLES,
            *DOCS,
            *REPORTS,
            *TFMOT,
            "setuptools",
            "psutil",
            "pytest",
            "pytest-xdist",
            "ruff",
            "mypy",
            "jax",
            "hypothesis",
        ],
    },
    entry_points={"console_scripts": ["resrep-keras = resrep_keras.cli:main"]},
    keywords="keras tensorflow pruning compression tflite channels",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
