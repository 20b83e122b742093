"""The study of the tail-index estimators, at smoke size."""

import json

import numpy as np

from experiments.tail_estimators import cells as study
from experiments.tail_estimators import config as configs


def test_smoke_run(tmp_path):
  config = configs.get_config('smoke')
  rows = study.run(config, tmp_path / 'run')
  bias = {
    (row['law'], row['estimator']): row
    for row in rows
    if row['study'] == 'bias'
  }
  assert len(bias) == 3 * 4
  # The 5 % and 95 % quantiles of 20 estimates: the truth lies between them
  # where the estimator is at home.
  for name in ('mmo', 'mmo_univariate'):
    own = bias['stable 1.8', name]
    assert own['low'] < 1.8 < own['high']
  # The shift is read as a heavier tail, unless it is taken off.
  assert bias['stable 1.8, shifted', 'mmo']['high'] < 1.5
  assert bias['stable 1.8, shifted', 'mmo centred']['median'] > 1.5
  for name in ('mmo', 'mmo centred', 'mmo_univariate', 'hill 5 %'):
    assert bias['Gaussian', name]['median'] > 1.9
  coverage = [row for row in rows if row['study'] == 'coverage']
  assert len(coverage) == 3 + 4
  assert all(row['coverage'] >= 0.6 for row in coverage)
  written = json.loads((tmp_path / 'run' / 'results.json').read_text())
  again = study.run(config, tmp_path / 'run')
  assert json.dumps(again) == json.dumps(written)
  assert (tmp_path / 'run' / 'bias.png').exists()


def test_share_covered():
  alpha, error = np.array([1.0, 1.0, 2.0]), np.array([0.1, 0.6, 0.1])
  assert study._share_covered(alpha, error, 2.0) == 2 / 3
  assert study._share_covered(alpha, error, np.inf) is None


def test_laws_have_the_tails_they_say():
  """Far quantiles of |x| fall by 10^(-1/alpha) for a tenth of the mass."""
  import jax

  for i, law in enumerate(study.laws()):
    if not np.isfinite(law.alpha) or 'shifted' in law.name:
      continue
    # Student's draws take fifty times as long as others. His tails are straight
    # from nearer in: by t's own quantiles the slope is 0.82 alpha or more.
    size = 100_000 if 'Student' in law.name else 400_000
    shape = (size, 2 if 'vectors' in law.name else 1)
    x = np.abs(np.asarray(law.draw(jax.random.key(i), shape))[:, 0])
    near, far = np.quantile(x, 1 - np.array([2000, 200]) / size)
    slope = np.log(10) / np.log(far / near)
    # 200 samples lie beyond the far one: 7 % of slope is one standard error.
    # Student's and stable tails are power laws only in the limit.
    assert slope > 0.65 * law.alpha
    assert slope < (1.35 if law.alpha < 1.9 else 2.2) * law.alpha
