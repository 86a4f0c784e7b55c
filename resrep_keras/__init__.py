"""resrep_keras: structured (channel) pruning that makes Keras models physically smaller.

>>> model = resrep_keras.wrap(dense)
>>> model.fit(train, epochs=30)
>>> slim = resrep_keras.finalize(model)
>>> resrep_keras.export(slim, "slim.tflite")
"""

from resrep_keras.callbacks import PruningCallback
from resrep_keras.checkpoints import Backup, PrunedCheckpoint
from resrep_keras.costs.macs import count_macs
from resrep_keras.costs.params import count_params
from resrep_keras.explain import explain
from resrep_keras.export import export
from resrep_keras.finalizing import finalize
from resrep_keras.gradient_report import backward_macs, gradient_sparsity
from resrep_keras.graph.channels import ChannelGraph
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.methods.activation_gradient import ActivationGradientPruning
from resrep_keras.methods.aofp import AOFP
from resrep_keras.methods.composed import compose
from resrep_keras.methods.fpgm import FPGM
from resrep_keras.methods.granet import GraNet
from resrep_keras.methods.group_lasso import GroupLasso
from resrep_keras.methods.magnitude import MagnitudePruning
from resrep_keras.methods.network_slimming import NetworkSlimming
from resrep_keras.methods.random_pruning import RandomPruning
from resrep_keras.methods.resrep import ResRep
from resrep_keras.methods.taylor import TaylorPruning
from resrep_keras.optimizers.penalty import PenaltyOptimizer
from resrep_keras.optimizers.sparse import SparseOptimizer
from resrep_keras.plasticity import pruning_plasticity
from resrep_keras.redesign import redesign, widths_of
from resrep_keras.report import report
from resrep_keras.search import search
from resrep_keras.workflow import wrap

__version__ = "0.1.0"
