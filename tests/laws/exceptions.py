"""What is not as the laws of the house have it: each by name, with the reason."""

# (file, file of a higher folder that it imports): why. At most ten.
IMPORTS = {}

# Where heavy libraries may be used, inside functions.
HEAVY = {
    "tensorflow": {
        "common/eager": "computing at once while a step is traced",
        "common/gradients": "gradients outside of fit",
        "tflite/convert": "the converter",
        "tflite/quantization": "what the converter is told",
        "tflite/run": "the interpreter",
        "deploy/formats": "SavedModel, loaded again",
        "deploy/pruning_board": "what TensorBoard reads",
        "tfmot/packages": "its names for Keras",
        "tfmot/functions": "what operations are there",
        "tfmot/aware": "ranges of activations",
        "tfmot/files": "the converter of a model of tf_keras",
    },
    "matplotlib": {
        "deploy/page": "figures as SVG",
        "deploy/plots": "figures",
        "deploy/pruning_board": "figures as images",
        "deploy/run_plots": "figures of runs",
    },
    "jinja2": {"deploy/page": "the page of a report"},
    "scipy": {"explanation/layout": "boxes of pictures, as near as they can be"},
    "rich": {"common/progress": "how far long work is", "common/tables": "tables"},
    "tf_keras": {
        "commands/files": "SavedModels of Keras 2",
        "tfmot/packages": "imported so that tf.keras stays what it is",
    },
    "tensorflow_model_optimization": {"tfmot/packages": "the same"},
}

# Files of the library without a test file of their name: why.
WITHOUT_TEST = {
    "common/types": "names of types, which mypy reads",
    "deploy/reported": "what reports hold and write: tests/deploy/test_report.py, test_page.py",
    "deploy/template": "the page that it makes: tests/deploy/test_page.py",
    "costs/comparison": "the rows of a report: tests/deploy/test_report.py",
    "deploy/formats": "each format is written and read: tests/deploy/test_export.py",
    "__main__": "in a process of its own: tests/test_cli.py",
    "commands/files": "what commands read: tests/commands/test_actions.py",
    "commands/timing": "`benchmark`: tests/commands/test_actions.py",
    "methods/gradients/report": "counted at the places: tests/methods/gradients/test_places.py",
    "methods/channels/by_hand": "the loop of one's own: tests/test_examples.py",
    "methods/channels/channel_method": "limits and widths: test_settings.py beside it",
    "methods/channels/finalize": "what users see of it: tests/workflow/test_finalize.py",
    **dict.fromkeys(
        (
            "tfmot/activations",
            "tfmot/counterparts",
            "tfmot/functions",
            "tfmot/layers",
            "tfmot/operations",
            "tfmot/settings",
        ),
        "what a layer or operation is in tf_keras: tests/tfmot/test_convert.py",
    ),
    "tfmot/scheme": "what is quantized, and how: tests/tfmot/test_aware.py",
    "surgery/parts": "what a keep array leaves, over the zoo: tests/laws/test_surgery.py",
    **dict.fromkeys(
        (
            "methods/channels/fpgm",
            "methods/channels/group_lasso",
            "methods/channels/lasso_training",
            "methods/channels/network_slimming",
            "methods/channels/one_shot",
            "methods/channels/random_pruning",
            "methods/channels/taylor",
        ),
        "a criterion of some lines: tests/methods/channels/test_baselines.py, and the laws of "
        "methods",
    ),
    **dict.fromkeys(
        (
            "methods/consolidation/ewc",
            "methods/consolidation/fine_tuning",
            "methods/consolidation/mas",
            "methods/consolidation/synaptic_intelligence",
        ),
        "a measure of some lines: tests/methods/consolidation/test_importance.py and test_tasks.py",
    ),
    "methods/consolidation/method": "what it answers: tests/methods/consolidation/test_tasks.py",
    "methods/consolidation/path_integral": "by hand: tests/methods/consolidation/test_optimizer.py",
    "methods/consolidation/outputs": "which is in use: tests/methods/consolidation/test_tasks.py",
}
