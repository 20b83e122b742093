"""Presets of `experiments/tail_estimators`."""

from ml_collections import ConfigDict

from experiments.common.presets import choose

PRESETS = {
  'smoke': {
    'laws': ('stable 1.8', 'stable 1.8, shifted', 'Gaussian'),
    'estimators': ('mmo', 'mmo centred', 'mmo_univariate', 'hill 5 %', 'hill'),
    'bias': {'repeats': 20, 'vectors': 400},
    'coverage': {'replicates': 20, 'stable_size': 1000},
  },
  'cpu': {},
}


def get_config(preset: str = 'cpu') -> ConfigDict:
  """The locked settings of a preset.

  Args:
    preset: 'smoke' (seconds) or 'cpu' (minutes on two cores).

  Returns:
    A ConfigDict with every value that a run depends on.

  Raises:
    ValueError: an unknown preset.
  """
  base = {
    'studies': ('bias', 'coverage'),
    'laws': (),  # of the bias study; () is all
    'estimators': (),  # () is all
    # Every estimator on every law: `vectors` samples of dimension `dim`.
    'bias': {'repeats': 100, 'vectors': 1000, 'dim': 10},
    # 95 % intervals of each estimator on its own model.
    'coverage': {'replicates': 1000, 'stable_size': 20_000},
  }
  return choose(preset, base, PRESETS)
