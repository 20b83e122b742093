"""Presets: how many samples, and of which size.

Over each preset stand its time on 2 cores and numbers that come out.
"""

from typing import Any

from experiments.common.presets import getter

BASE: dict[str, Any] = {
  'studies': ('bias', 'coverage'),
  'laws': (),  # of the bias study; () is all
  'estimators': (),  # () is all
  # Every estimator on every law: `vectors` samples of dimension `dim`.
  'bias': {'repeats': 100, 'vectors': 1000, 'dim': 10},
  # 95 % intervals of each estimator on its own model.
  'coverage': {'replicates': 1000, 'stable_size': 20_000},
  # (dim, batch size, step size) of SGD on least squares, unit curvature.
  'least_squares': {
    'settings': (
      *((1, 1, 0.6), (1, 1, 0.7), (1, 1, 0.85), (1, 1, 1.0), (1, 1, 1.2)),
      *((1, 2, 1.0), (1, 2, 1.2), (2, 1, 0.4), (2, 1, 0.5), (2, 1, 0.6)),
      *((2, 1, 0.7), (2, 2, 0.7), (2, 2, 0.8), (2, 2, 0.9), (3, 2, 0.6)),
      *((5, 2, 0.45), (5, 5, 0.8), (5, 5, 0.9)),
    ),
    'chains': 100_000,
    'steps': 200,
    'top': 400,
  },
}

PRESETS: dict[str, dict[str, Any]] = {
  # Does it run? 10 s: block sums read stable 1.8 as 1.8, shifted by 1 as 1.2.
  'smoke': {
    'laws': ('stable 1.8', 'stable 1.8, shifted', 'Gaussian'),
    'estimators': ('mmo', 'mmo centred', 'mmo_univariate', 'hill 5 %', 'hill'),
    'bias': {'repeats': 20, 'vectors': 400},
    'coverage': {'replicates': 20, 'stable_size': 1000},
  },
  # 13 min on 2 cores: block sums and the stable likelihood find the index of
  # stable laws from 1.2 to 1.95, Hill 5 % reads 1.8 as 2.65; intervals hold the
  # index in 93.6-96.9 %, of a power law with a searched start in 91.0-91.7 %.
  'cpu': {},
  # The heavy-tail phenomenon. 5 min: in 15 of 17 settings Hill's index is
  # within 1.96 standard errors of theory; at an index of 3 it is biased.
  'least_squares': {'studies': ('least_squares',)},
}

get_config = getter(BASE, PRESETS, 'cpu')
