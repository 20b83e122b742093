"""Presets of the study of compressed last layers.

Over each preset stand its time on 2 cores and numbers that come out.
"""

from typing import Any

from experiments.common.presets import getter

BASE: dict[str, Any] = {
  'weights': '',  # .npz or .safetensors files, with commas between
  # Name of the final dense layer; in files without it the last matrix is
  # taken, of a .safetensors file the last by name.
  'final_layer': '',
  'dataset': 'cifar10',
  'limit': 0,  # test pictures, for a quick look; 0 is all
  'eval_batch': 500,
  # Table 1: those of `pruning.gaussian_replacement`, and a control.
  'variants': ('experiment', 'experiment_signed', 'theory', 'zeros'),
  'num_trials': 10,
  'seed': 0,
  # Of 'theory' and 'zeros', in units of the layer's standard deviation s,
  # and of s^2.
  'theory_threshold': 1.0,
  'theory_variance': 1.0,
  # Figure 3: points are 'all' layers with so many entries, or the 'final'
  # ones, as in the paper.
  'points': 'all',
  # Exponents are those of the 'absolute' values of the weights, or of the
  # 'positive' weights, which is what the `powerlaw` package makes of signed
  # ones; ranks are 'stable', F^2 / S^2, or 'printed', F^2 / S^4.
  'exponents': 'absolute',
  'ranks': 'stable',
  'min_entries': 100,
  'num_lines': 0,  # 0 chooses among up to `max_lines` by BIC; the program has 2
  'max_lines': 3,
  'num_restarts': 64,
  # Figures 1 and 2, at the alpha of the paper's program.
  'density_alphas': (0.5, 1.0, 1.5, 1.9),
  'base': 1.3,
  'top': 5,
  'row_length': 64,
  'grid': 41,
}

PRESETS: dict[str, dict[str, Any]] = {
  # Does it run, on 300 pictures: 6 s on 2 cores without weights, 1-2 min with
  # four networks. (16) at alpha 1.75 and i = 1 is 0.991, the binomial 0.494.
  'smoke': {'limit': 300, 'num_trials': 3, 'num_restarts': 8, 'grid': 9},
  # Table 1 and the figures: 3-6 min on 2 cores with four networks. ResNet-20
  # from 91.73 % to 84.96+-4.00 % (published 93.90 to 89.19+-3.03), with zeros
  # 90.37 %.
  'cpu': {},
}

get_config = getter(BASE, PRESETS, default='cpu')
