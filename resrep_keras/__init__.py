"""resrep_keras: structured (channel) pruning that makes Keras models physically smaller.

>>> model = resrep_keras.wrap(dense)
>>> model.fit(train, epochs=30)
>>> slim = resrep_keras.finalize(model)
>>> resrep_keras.export(slim, "slim.tflite")
"""

from resrep_keras import rules, tfmot
from resrep_keras.costs.macs import count_macs
from resrep_keras.costs.params import count_params
from resrep_keras.deploy.export import export
from resrep_keras.deploy.pruning_board import PruningBoard
from resrep_keras.deploy.report import report
from resrep_keras.explanation.explain import explain
from resrep_keras.graph.channels import ChannelGraph
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.self_attention_pooling import SelfAttentionPooling
from resrep_keras.methods.channels.aofp import AOFP
from resrep_keras.methods.channels.callback import PruningCallback
from resrep_keras.methods.channels.fpgm import FPGM
from resrep_keras.methods.channels.group_lasso import GroupLasso
from resrep_keras.methods.channels.magnitude import MagnitudePruning
from resrep_keras.methods.channels.network_slimming import NetworkSlimming
from resrep_keras.methods.channels.random_pruning import RandomPruning
from resrep_keras.methods.channels.resrep import ResRep
from resrep_keras.methods.channels.taylor import TaylorPruning
from resrep_keras.methods.composed import compose
from resrep_keras.methods.consolidation.anpyc import ANPyC
from resrep_keras.methods.consolidation.ewc import EWC
from resrep_keras.methods.consolidation.fine_tuning import FineTuning
from resrep_keras.methods.consolidation.mas import MAS
from resrep_keras.methods.consolidation.metrics import (
    average_accuracy,
    forgetting,
    free_capacity,
    learning_accuracy,
)
from resrep_keras.methods.consolidation.synaptic_intelligence import SynapticIntelligence
from resrep_keras.methods.consolidation.tasks import end_task, task_model
from resrep_keras.methods.gradients.method import ActivationGradientPruning
from resrep_keras.methods.gradients.report import backward_macs, gradient_sparsity
from resrep_keras.methods.sparse.granet import GraNet
from resrep_keras.methods.sparse.optimizer import SparseOptimizer
from resrep_keras.optimizers.penalty import PenaltyOptimizer
from resrep_keras.training.backup import Backup
from resrep_keras.training.distillation import Distillation
from resrep_keras.training.pruned_checkpoint import PrunedCheckpoint
from resrep_keras.workflow.finalize import finalize
from resrep_keras.workflow.plasticity import pruning_plasticity
from resrep_keras.workflow.prune import prune
from resrep_keras.workflow.redesign import redesign, widths_of
from resrep_keras.workflow.search import search
from resrep_keras.workflow.tasks import fit_tasks
from resrep_keras.workflow.wrap import wrap

__version__ = "0.1.0"
