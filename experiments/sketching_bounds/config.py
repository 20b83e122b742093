"""Presets of the study of bounds for pruned networks.

Over each preset stand its time on 2 cores and numbers that come out.
"""

from typing import Any

from experiments.common.presets import getter

_WIDTHS = (500, 784, 1000, 1500, 2000, 2500)

BASE: dict[str, Any] = {
  'seed': 0,
  # Networks: (data set, width), trained one by one, and those that are
  # also pruned, drawn and followed from epoch to epoch.
  'networks': (*(('mnist', h) for h in _WIDTHS), ('cifar10', 784)),
  'pruned': (('mnist', 784), ('cifar10', 784)),
  'traced': (('mnist', 784),),
  'hidden_layers': 4,
  'learning_rate': 0.02,
  'batch_sizes': {'mnist': 256, 'cifar10': 4, 'digits': 128},
  'epochs': 300,
  'trace_epochs': (1, 2, 3, 5, 10, 20, 30, 50, 100, 150, 200, 250, 300),
  # The bounds. The margin is this quantile of the positive training
  # margins, which the paper does not give.
  'margin_quantile': 0.1,
  'delta': 0.05,
  'kept': 1 / 60,
  'num_values': 255,
  'sparsity_failure': 0.01,
  'constant': 1.0,
  # Inputs and draws for what is measured on some examples only.
  'cushion_inputs': 50,
  'cushion_probes': 50,
  'smoothness_draws': 50,
  'curvature_inputs': 200,
  'output_inputs': 2000,
  # Pruning strengths d; 1/60 of the entries are kept at 58.5.
  'strengths': (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 58.504),
  # Each layer's error is at most 2 L times its mean, all of them with
  # probability 1/2.
  'markov_factor': 2.0,
  # Recovery: p, and for each the sketch sizes m as fractions of p.
  'sides': (24, 50, 100, 200),
  'fractions': (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
  'ones': (2, 4, 7),
  'sparsities': (2, 4),
  'draws': 20,
  'max_iterations': 800,
}

PRESETS: dict[str, Any] = {
  # Does it run, on digits and without data: 20 s on 2 cores. At width 64 in
  # logarithms: Bartlett 2017 4.29, sketch 1.91, plain count -0.61, error -2.33.
  'smoke': {
    'networks': (('digits', 64), ('digits', 32)),
    'hidden_layers': 1,
    'pruned': (('digits', 64),),
    'traced': (('digits', 64),),
    'learning_rate': 0.002,
    'epochs': 6,
    'trace_epochs': (1, 6),
    'cushion_inputs': 10,
    'cushion_probes': 10,
    'smoothness_draws': 20,
    'curvature_inputs': 20,
    'output_inputs': 100,
    'strengths': (1e-3, 0.1, 58.504),
    'sides': (12,),
    'fractions': (0.9,),
    'ones': (4,),
    'sparsities': (2,),
    'draws': 5,
  },
  # The published widths in few epochs: 20 min on 2 cores. MNIST, width 784:
  # Bartlett 2017 23.71 (11.68 published), `reading` 3.75 (3.77), error -2.44.
  'cpu': {
    'batch_sizes': {'mnist': 256, 'cifar10': 256, 'digits': 128},
    'epochs': 2,
    'trace_epochs': (1, 2, 3, 4, 6, 8, 10),
    'draws': 10,
  },
  # The published epochs and batches: for a GPU, not run.
  'paper': {'draws': 100},
}

# 25 CPU minutes. Rate and epochs were chosen at width 784, where they give the
# published test error: Bartlett 2017 10.55, error -3.84 (-3.84 published).
PRESETS['cpu_low_rate'] = {
  **PRESETS['cpu'],
  'learning_rate': 0.001,
  'epochs': 5,
  'sides': (),  # recovery knows no rate
}

# Table 2 as the paper's program makes it, one width at a time (--config.width).
PRESETS['authors'] = {
  'protocol': 'authors',
  'dataset': 'mnist',
  'width': 784,
  'seeds': (0,),
  'batch_size': 256,
  'weight_decay': 1e-4,
  'epochs_between': 5,
  'target_loss': 0.0,  # 0 is any
  'at_once': 0,
  'checkpoint_every': 60.0,
}
# All 300 epochs, through which the smallest margin grows.
PRESETS['authors_300'] = {**PRESETS['authors'], 'target_loss': 1e-30}
# Does it run, on digits: 10 s.
PRESETS['authors_smoke'] = {
  **PRESETS['authors'],
  'dataset': 'digits',
  'width': 32,
  'batch_size': 64,
  'epochs': 400,
  'epochs_between': 20,
}

get_config = getter(BASE, PRESETS, default='cpu')
