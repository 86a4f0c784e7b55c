"""What is not as the laws of the house have it: each by name, with the reason."""

# (file, file of a higher folder that it imports): why. At most ten.
IMPORTS = {}

# Where heavy libraries may be used, inside functions.
HEAVY = {
    "tensorflow": {
        "tflite/convert": "the converter",
        "tflite/run": "the interpreter",
        "deploy/formats": "SavedModel, loaded again",
    },
    "matplotlib": {"deploy/plots": "figures"},
}

# Files of the library without a test file of their name: why.
WITHOUT_TEST = {}
