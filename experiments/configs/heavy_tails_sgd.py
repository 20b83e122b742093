"""Presets of `experiments/heavy_tails_sgd.py`.

A panel is one network on one data set, with its step sizes and batch sizes:
the paper's figures have six. `smoke` takes seconds, `cpu` half an hour on two
cores; `paper` and `paper_PANEL` train at the published sizes and want a GPU.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs.presets import choose

STUDIES = ('training', 'networks', 'matrices', 'limits')

# The pruned fractions of the authors' programs.
_MAGNITUDE = (
  *(0.0, 0.1, 0.2, 0.3, 0.4),
  *(0.5 + i / 40 for i in range(21)),
)
_SINGULAR = (
  *(0.0, 0.25, 0.5, 0.6),
  *(0.65 + i / 20 for i in range(6)),
  *(0.91 + i / 100 for i in range(10)),
)
_UNITS = tuple(i / 20 for i in range(21))


def get_config(preset: str = 'cpu') -> ConfigDict:
  """The locked settings of a preset.

  Args:
    preset: a name in `PRESETS`, or `paper_` and one of the paper's panels.

  Returns:
    A ConfigDict with every value that a run depends on.

  Raises:
    ValueError: an unknown preset.
  """
  known = {**PRESETS, **{f'paper_{name}': _paper(name) for name in PANELS}}
  return choose(preset, _base(), known)


def _base() -> dict[str, Any]:
  return {
    'studies': STUDIES,
    'panels': (),  # dicts as `_panel` makes them
    'seeds': (0,),
    # The stopping rule, looked at every `eval_every` steps, and the steps
    # after it whose iterates are averaged. The authors' programs pass over
    # 8,999 and average 1,001.
    'eval_every': 200,
    'target_accuracy': 1.0,
    'target_loss': 5e-5,
    'average_steps': 1000,
    'average_delay': 0,
    'max_steps': 1_000_000,
    'eval_batch': 5000,
    'at_once': 0,  # lanes in one batch; 0 chooses by backend
    'checkpoint_every': 60.0,
    # Which medians are taken, and what is counted: 'paper' or 'authors'.
    'protocol': 'paper',
    'error': 0.1,  # of the layers' pruning ratios; relative, not squared
    'fractions': {
      'magnitude': _MAGNITUDE,
      'global': _MAGNITUDE,
      'singular': _SINGULAR,
      'nodes': _UNITS,
      'kernels': _UNITS,
    },
    # Random networks: prunability by magnitude, tail index by tail index.
    'networks': {
      'alphas': tuple(1.5 + i / 20 for i in range(11)),
      'repeats': 10,
      'dim': 784,
      'width': 2048,
      'hidden_layers': 6,
      'num_classes': 10,
      'num_inputs': 60_000,
      'fractions': (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98),
    },
    # Random matrices: entries, columns or the whole drawn independently.
    'matrices': {'draws': 250, 'low': 1.75, 'high': 2.0, 'size': 500},
    # What theorems say of independent entries, each from so many repeats.
    'limits': {
      'repeats': 40,
      'size': 500,
      'singular_size': 800,
      'largest': 1_000_000,
    },
  }


def _panel(name, dataset, network, rates, num_params=0, **more):
  """One network on one data set.

  `rates` are (batch size, learning rates) pairs; `num_params` is asserted,
  0 is not.
  """
  return {
    'name': name,
    'dataset': dataset,
    'network': network,
    'rates': rates,
    'num_params': num_params,
    'limit': 0,  # training examples; 0 is all
    'width': 2048,
    'hidden_layers': 4,
    'channels': (),
    **more,
  }


_CNN = ('M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M')


def _steps(first, last, step, scale=1000):
  """first, first + step, .. last; in units of 1 / scale, to be exact."""
  return tuple(i / scale for i in range(first, last + 1, step))


# The published sizes and step sizes: 215 networks that converged.
PANELS = {
  'fcn4_cifar10': _panel(
    *('fcn4_cifar10', 'cifar10', 'fcn'),
    (
      (
        100,
        (
          *(0.005, 0.0075, 0.01, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.07),
          *(0.075, 0.08, 0.09, *_steps(100, 190, 10), 0.192, 0.194, 0.196),
          *(0.2, 0.22, 0.24, 0.25, 0.26, 0.262, 0.264, 0.266, 0.27),
        ),
      ),
      (
        50,
        (
          *(0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.11, 0.12, 0.13),
          *(0.1325, 0.135),
        ),
      ),
      (10, (0.005,)),
    ),
    18_894_848,
  ),
  'fcn6_cifar10': _panel(
    *('fcn6_cifar10', 'cifar10', 'fcn'),
    (
      (
        100,
        (
          *(0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125),
          *(*_steps(150, 300, 25), 0.31, 0.32, 0.325, 0.33, 0.34),
        ),
      ),
      (
        50,
        (0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2),
      ),
    ),
    27_283_456,
    hidden_layers=6,
  ),
  'cnn_cifar10': _panel(
    *('cnn_cifar10', 'cifar10', 'cnn'),
    (
      (
        100,
        (
          *(0.001, 0.005, 0.01, 0.025, 0.05, 0.075),
          *(0.1, 0.11, 0.12, 0.13, 0.14, 0.15),
        ),
      ),
      (50, (0.001, 0.005, 0.01, 0.025, 0.05, 0.075)),
    ),
    9_222_848,
    channels=(64, *_CNN),
  ),
  'fcn4_mnist': _panel(
    *('fcn4_mnist', 'mnist', 'fcn'),
    (
      (
        100,
        (
          *(0.005, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.225, 0.25, 0.26),
          *(0.27, 0.28, 0.3, 0.31),
        ),
      ),
      (
        50,
        (
          *(0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.225),
          *(*_steps(25, 43, 1, 100), 0.435, 0.44, 0.445, 0.46, 0.5, 0.51),
          *(0.52, 0.53, 0.54, 0.55, 0.555, 0.57),
        ),
      ),
    ),
    14_209_024,
  ),
  'fcn6_mnist': _panel(
    *('fcn6_mnist', 'mnist', 'fcn'),
    (
      (
        100,
        (
          *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.325),
          *(0.33, 0.34, 0.346),
        ),
      ),
      (
        50,
        (
          *(0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2),
          *(0.25, 0.3, 0.325, 0.33, 0.34, 0.35, 0.355, 0.38, 0.4, 0.415),
          *(0.42, 0.425, 0.44),
        ),
      ),
    ),
    22_597_632,
    hidden_layers=6,
  ),
  'cnn_mnist': _panel(
    *('cnn_mnist', 'mnist', 'cnn'),
    (
      (
        100,
        (
          *(0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.21),
          *(0.22, 0.23, 0.24, 0.25, 0.28, 0.29, 0.295, 0.31),
        ),
      ),
      (
        50,
        (
          *(0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.3),
          *(0.3075, 0.3175),
        ),
      ),
    ),
    9_221_696,
    channels=(64, *_CNN[1:]),
  ),
}


def _paper(*names):
  return {
    'panels': tuple(PANELS[name] for name in names),
    'studies': STUDIES if len(names) > 1 else ('training',),
    'eval_batch': 1000,
  }


PRESETS = {
  'smoke': {
    'panels': (
      _panel(
        *('fcn2_digits', 'digits', 'fcn', ((50, (0.1, 0.4)), (25, (0.4,)))),
        limit=500,
        width=32,
        hidden_layers=2,
      ),
    ),
    'target_loss': 0.01,
    'average_steps': 200,
    'max_steps': 10_000,
    'networks': {
      'alphas': (1.5, 2.0),
      'repeats': 2,
      'dim': 64,
      'width': 64,
      'num_inputs': 200,
    },
    'matrices': {'draws': 10, 'size': 50},
    'limits': {
      'repeats': 20,
      'size': 50,
      'singular_size': 40,
      'largest': 10_000,
    },
  },
  'smoke_cnn': {
    'panels': (
      _panel(
        *('cnn_digits', 'digits', 'cnn', ((50, (0.1,)),)),
        limit=500,
        channels=(16, 'M', 16),
      ),
    ),
    'studies': ('training',),
    'target_loss': 0.05,
    'average_steps': 200,
    'max_steps': 10_000,
  },
  'cpu': {
    'panels': (
      _panel(
        *('fcn4_mnist', 'mnist', 'fcn'),
        (
          (100, (0.04, 0.1, 0.2, 0.4)),
          (50, (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)),
        ),
        limit=5000,
        width=256,
      ),
    ),
    'seeds': (0, 1, 2),
    'max_steps': 200_000,
    'networks': {'width': 512, 'num_inputs': 2000, 'repeats': 20},
  },
  'paper': _paper(*PANELS),
}
