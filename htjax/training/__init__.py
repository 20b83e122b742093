"""Training many lanes of one network, each to its stopping rule.

A lane is one run: a seed with its noise's alpha and sigma. Lanes share the
network, the data and the compiled program; on an accelerator they are one
vmapped batch, on a CPU they run one after another, which is faster there. The
order within a step is that of the papers' programs: noise (but not before the
first step), gradient step, and on the evaluation grid the stopping rule, so
that a network that has met the rule carries no noise after its last step.

`make_program` takes any optax transformation, loss, stopping rule and order of
the examples; `train` runs lanes to their rule, `epochs` one lane for given
numbers of epochs, `train_batches` one on the batches of any iterator.
"""

from htjax.training.evaluation import cross_entropy, evaluate
from htjax.training.keys import analysis_key, init_key, named_key
from htjax.training.lanes import (
  AVERAGING,
  CONVERGED,
  DIVERGED,
  OUT_OF_STEPS,
  RUNNING,
  STATUS,
  Examples,
  Finished,
  Lane,
  LaneState,
  Recipe,
)
from htjax.training.loop import epochs, train
from htjax.training.programs import Program, make_program
from htjax.training.stopping import Progress
from htjax.training.streams import train_batches

__all__ = [
  'AVERAGING',
  'CONVERGED',
  'DIVERGED',
  'OUT_OF_STEPS',
  'RUNNING',
  'STATUS',
  'Examples',
  'Finished',
  'Lane',
  'LaneState',
  'Program',
  'Progress',
  'Recipe',
  'analysis_key',
  'cross_entropy',
  'epochs',
  'evaluate',
  'init_key',
  'make_program',
  'named_key',
  'train',
  'train_batches',
]
