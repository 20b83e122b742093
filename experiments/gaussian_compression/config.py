"""Presets of `experiments/gaussian_compression.py`.

Weights are files, named by `--config.weights=FILE,FILE,..`; without any, the
figures that need none are drawn. `smoke` looks at a few hundred pictures, `cpu`
is Table 1.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs.presets import choose


def get_config(preset: str = 'cpu') -> ConfigDict:
  """The locked settings of a preset.

  Args:
    preset: a name in `PRESETS`.

  Returns:
    A ConfigDict with every value that a run depends on.

  Raises:
    ValueError: an unknown preset.
  """
  return choose(preset, _base(), PRESETS)


def _base() -> dict[str, Any]:
  return {
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
    'min_entries': 100,
    'max_lines': 3,
    'num_restarts': 64,
    # Figures 1 and 2; the paper does not say its values of alpha.
    'density_alphas': (0.5, 1.0, 1.5, 2.0),
    'base': 1.3,
    'top': 5,
    'row_length': 64,
    'grid': 41,
  }


PRESETS = {
  'smoke': {'limit': 300, 'num_trials': 3, 'num_restarts': 8, 'grid': 9},
  'cpu': {},
}
