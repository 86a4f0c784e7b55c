"""Slim models in tf_keras (Keras 2), where tensorflow-model-optimization works on them.

tf_keras and tfmot are imported by the functions that need them, and come with an extra:
`pip install "resrep-keras[tfmot]"`.
"""

from resrep_keras.tfmot import layers, operations
from resrep_keras.tfmot.aware import quantize_aware
from resrep_keras.tfmot.back import from_tf_keras
from resrep_keras.tfmot.convert import to_tf_keras
from resrep_keras.tfmot.counterparts import counterpart
from resrep_keras.tfmot.files import export
from resrep_keras.tfmot.packages import model_optimization
