"""Presets of the certificates.

Over each preset stand its time on 2 cores and numbers that come out.
"""

from typing import Any

from experiments.common.presets import getter

BASE: dict[str, Any] = {
  'dataset': 'mnist',
  'levels': 255,  # of grey
  'delta': 0.05,
  # Families of networks that were looked at before this one was taken.
  'families': 4,
  # The design: in front of every codeword.
  'orientations': 8,
  'cell': 4,
  'channels': 8,
  'size': 3,
  'pool': 2,
  'num_values': 4,  # of the weights of a layer
  'mantissa_bits': 3,
  'batch_size': 200,
  'learning_rate': 0.01,
  'warmup_steps': 100,
  'prune_every': 20,
  'kind': 'type2',
  # Epochs: dense (with noise, if any), pruned in rounds, quantised.
  'epochs': (4, 6, 8),
  'study_epochs': (2, 2, 3),
  'kappa': 0.3,  # kept fraction of the weights
  'kappas': (0.1, 0.2, 0.45, 0.7),
  'alphas': (1.5, 1.75, 1.9, 2.0),
  'sigma': 0.005,
  'num_seeds': 3,
}

PRESETS: dict[str, dict[str, Any]] = {
  # Does it run, on the pictures of 8 x 8 pixels that come with scikit-learn:
  # 15 s on 2 cores. 1,413 bits, 10.00 % of test errors, a bound of 61.69 %.
  'smoke': {
    'dataset': 'digits',
    'levels': 16,
    'cell': 2,
    'batch_size': 50,
    'epochs': (10, 10, 10),
    'study_epochs': (4, 4, 4),
    'kappas': (0.1,),
    'alphas': (1.75,),
    'num_seeds': 1,
  },
  # MNIST: 6 min of one core. 2,133 bits, 2.92 % of test errors, a bound of
  # 8.63 % (11.6 % published before); random labels 94.99 %.
  'cpu': {},
}

get_config = getter(BASE, PRESETS, default='smoke')
