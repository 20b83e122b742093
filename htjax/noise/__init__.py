"""Heavy-tailed noise: the process, and optax transformations that add it.

`add_stable_noise` is the last link of a chain: it adds
sigma * eta_t^(1/alpha) * X_t to the finished update, with X_t symmetric
alpha-stable of Type I, II or III. Behind any optimizer that gives the update
u_t the recursion is

  theta_{t+1} = theta_t + u_t + sigma * eta_t^(1/alpha) * X_t,

the Euler scheme of a stochastic differential equation driven by a stable Lévy
process when u_t = -eta_t * gradient. Anywhere else in a chain it would be
another process.
"""

from htjax.noise.contribution import (
  contribution_noise,
  contribution_scale,
  contributions,
)
from htjax.noise.expectation import expected_pruning_ratio
from htjax.noise.monitor import NoiseWarning, check_loss, shares
from htjax.noise.process import UNITS, StableNoise
from htjax.noise.transformations import (
  AddStableNoiseState,
  add_stable_noise,
  heavy_tailed_sgd,
)

__all__ = [
  'UNITS',
  'AddStableNoiseState',
  'NoiseWarning',
  'StableNoise',
  'add_stable_noise',
  'check_loss',
  'contribution_noise',
  'contribution_scale',
  'contributions',
  'expected_pruning_ratio',
  'heavy_tailed_sgd',
  'shares',
]
