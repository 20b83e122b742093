"""Presets: panels, each one network on one data set, with its step sizes.

Over each preset stand its time on 2 cores and numbers that come out.
"""

from typing import Any

from experiments.common import published
from experiments.common.presets import getter

STUDIES = ('training', 'networks', 'matrices', 'limits', 'theorems')

# The pruned fractions of the authors' programs.
_MAGNITUDE = (0.0, 0.1, 0.2, 0.3, 0.4, *(0.5 + i / 40 for i in range(21)))
_SINGULAR = (
  *(0.0, 0.25, 0.5, 0.6),
  *(0.65 + i / 20 for i in range(6)),
  *(0.91 + i / 100 for i in range(10)),
)
_UNITS = tuple(i / 20 for i in range(21))

BASE: dict[str, Any] = {
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
  # What theorems say of independent entries, each from so many repeats; the
  # settings of `theorems`, too.
  'limits': {
    'repeats': 40,
    'size': 500,
    'singular_size': 800,
    'largest': 10**6,
  },
}


def _panel(
  name: str, network: str, rates: Any, num_params: int = 0, **more: Any
) -> dict[str, Any]:
  """One network on the data set that its name ends in.

  `rates` are (batch size, learning rates) pairs; a network of another
  `num_params` than this is an error, but for 0.
  """
  return {
    'name': name,
    'dataset': name.split('_')[1],
    'network': network,
    'rates': rates,
    'num_params': num_params,
    'limit': 0,  # training examples; 0 is all
    'width': 2048,
    'hidden_layers': 4,
    'channels': (),
    **more,
  }


def _published(name: str, network: str, **more: Any) -> dict[str, Any]:
  """A panel of the paper, with the step sizes of networks that converged."""
  rates = published.row('HT-TB2', name)
  num_params = published.value('HT-TB1', (name,), 'num_params')
  pairs = tuple((int(b), found) for b, found in rates.items())
  return _panel(name, network, pairs, int(num_params), **more)


_CNN = ('M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M')

# The published sizes: 215 networks.
PANELS = {
  panel['name']: panel
  for panel in (
    _published('fcn4_cifar10', 'fcn'),
    _published('fcn6_cifar10', 'fcn', hidden_layers=6),
    _published('cnn_cifar10', 'cnn', channels=(64, *_CNN)),
    _published('fcn4_mnist', 'fcn'),
    _published('fcn6_mnist', 'fcn', hidden_layers=6),
    _published('cnn_mnist', 'cnn', channels=(64, *_CNN[1:])),
  )
}

PRESETS: dict[str, dict[str, Any]] = {
  # Does it run? 70 s: alpha 1.89-1.92 on digits, all limits but a rate hold.
  'smoke': {
    'panels': (
      _panel(
        *('fcn2_digits', 'fcn', ((50, (0.1, 0.4)), (25, (0.4,)))),
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
      'largest': 10**4,
    },
  },
  # Does pruning of kernels run? 35 s: alpha 1.91.
  'smoke_cnn': {
    'panels': (
      _panel(
        *('cnn_digits', 'cnn', ((50, (0.1,)),)),
        limit=500,
        channels=(16, 'M', 16),
      ),
    ),
    'studies': ('training',),
    'target_loss': 0.05,
    'average_steps': 200,
    'max_steps': 10_000,
  },
  # A small network, and all that needs no training. 25 min on 2 cores: alpha
  # falls from 1.957 to 1.816 as eta / b rises from 0.0004 to 0.01, rank
  # correlation -0.95; of 39 networks one diverges.
  'cpu': {
    'panels': (
      _panel(
        *('fcn4_mnist', 'fcn'),
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
  # A small convolutional network on digits, for the pruning of kernels. 15 CPU
  # min: alpha 1.97 to 1.78, rank correlation with eta / b -0.68, in F6 -0.31.
  'cpu_cnn': {
    'panels': (
      _panel(
        *('cnn_digits', 'cnn'),
        ((50, (0.1, 0.2, 0.3, 0.4)), (25, (0.1, 0.2, 0.3, 0.4))),
        limit=500,
        channels=(16, 'M', 16),
      ),
    ),
    'seeds': (0, 1),
    'studies': ('training',),
    'max_steps': 60_000,
  },
  # The six published networks with all their step sizes: for a GPU.
  'paper': {'panels': tuple(PANELS.values()), 'eval_batch': 1000},
}
# And one of them alone.
for _name, _own in PANELS.items():
  _alone = {'panels': (_own,), 'studies': ('training',)}
  PRESETS[f'paper_{_name}'] = PRESETS['paper'] | _alone

get_config = getter(BASE, PRESETS, 'cpu')
