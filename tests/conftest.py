import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# JAX compiles each operation of each small model, which takes most of the time of its tests: with
# LLVM's optimisation it takes twice as long.
if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    )
# Each worker has a core of its own: more threads than that wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import hypothesis
import keras
import pytest

# Other backends than TensorFlow compile each shape of each drawn model anew.
EXAMPLES = 15 if keras.backend.backend() == "tensorflow" else 4
hypothesis.settings.register_profile("default", max_examples=EXAMPLES)
hypothesis.settings.register_profile("many", max_examples=300)

if keras.backend.backend() == "tensorflow":
    # TensorFlow rewrites each graph before it runs it, which pays in long runs: in short ones it
    # takes a tenth of the time. (Without its pruning of graphs memory would grow.)
    import tensorflow as tf

    rewriters = """
    layout_optimizer constant_folding shape_optimization remapping arithmetic_optimization
    dependency_optimization loop_optimization
    """
    tf.config.optimizer.set_experimental_options(dict.fromkeys(rewriters.split(), False))

# What was imported stays: looking through it takes most of the time of a garbage collection.
gc.freeze()
gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _fixed_seed():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session(free_memory=False)


@pytest.fixture(autouse=True, scope="module")
def _free_memory():
    yield
    gc.collect()
    gc.freeze()  # what is left stays, most of it, and is not looked through again


@pytest.fixture
def policy(request):
    """A dtype policy for one test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def pytest_collection_modifyitems(items):
    """Tests of what needs TensorFlow are skipped on other backends."""
    if keras.backend.backend() != "tensorflow":
        skip = pytest.mark.skip(reason="needs the TensorFlow backend")
        for item in items:
            if "tensorflow_only" in item.keywords:
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter):
    """The figures of the house, where they were tested."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    if any("laws/test_house.py" in getattr(report, "nodeid", "") for report in reports):
        from tests.laws import house

        terminalreporter.section("the house")
        terminalreporter.write_line(house.table())
