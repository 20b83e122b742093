"""One setting in which the statements are measured, and rows about it."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common import program
from experiments.common.cells import Row
from htjax import mean_field
from htjax.mean_field import Problem
from htjax.types import Array, ArrayLike, PRNGKey

# Bounds drawn, and the variant of the theorem that each is.
VARIANTS = {'bound': 'corrected', 'sharp_bound': 'sharp'}


class Case(NamedTuple):
  """The settings of one cell; `constants` gives B and its parts."""

  config: ConfigDict
  problem: Problem
  constants: Callable[[], mean_field.Regularity]
  key: PRNGKey
  alpha: float
  kind: str

  @property
  def noise(self) -> dict[str, Any]:
    """The noise of most studies."""
    sigma = self.config.sigma
    return {'alpha': self.alpha, 'sigma': sigma, 'kind': self.kind}

  @property
  def process(self) -> dict[str, Any]:
    """Noise and time of the studies of the width."""
    step_size = self.config.step_size
    steps = round(self.config.horizon / step_size)
    return self.noise | {'step_size': step_size, 'num_steps': steps}

  def start(self, key: PRNGKey, n: int) -> Array:
    """N(0, I) particles [n, dim]."""
    return jax.random.normal(key, (n, self.config.dim))

  def end(
    self, key: PRNGKey, start: Array, eta: float, steps: int, **changes: Any
  ) -> Array:
    """Particles [n, p] after so many steps of size eta."""
    settings = {'problem': self.problem, **self.noise, **changes}
    settings |= {'step_size': eta, 'num_steps': steps}
    return mean_field.simulate(key, particles=start, **settings).particles[-1]

  def replicas(self, num: int) -> dict[str, Any]:
    """Number of replicas, and their spread over devices."""
    mesh = program.mesh()
    share = num if mesh is None else num // mesh.size
    usual = 1 if jax.default_backend() == 'cpu' else share
    at_once = self.config.at_once or usual
    return {'num_replicas': num, 'at_once': at_once, 'mesh': mesh}

  def largest_norm(self, key: PRNGKey, n: int) -> float:
    """E max over n of |X|, X standard stable of this case."""
    key, samples = jax.random.fold_in(key, n), self.config.norm_samples
    return mean_field.mean_largest_norm(
      key, self.alpha, n, self.config.dim, self.kind, num_samples=samples
    )


def make_problem(config: ConfigDict) -> Problem:
  """tanh units and the log cosh loss on Gaussian inputs of length about 1."""
  generator = np.random.default_rng(config.seed)
  inputs = generator.normal(size=(config.num_data, config.dim))
  inputs /= math.sqrt(config.dim)
  return Problem(
    lambda theta, x: jnp.tanh(theta @ x),
    lambda f, y: jnp.logaddexp(f - y, y - f) - math.log(2),
    jnp.asarray(inputs, jnp.float32),
    jnp.asarray(np.sin(2 * inputs[:, 0]), jnp.float32),
  )


def rate_row(
  statement: str,
  what: str,
  x: Sequence[float],
  samples: ArrayLike,
  predicted: float | None = None,
  holds: Callable[[mean_field.Rate], bool] | None = None,
  *,
  bound: Callable[[str], list[float]] | None = None,
  statistic: str = 'mean',
) -> Row:
  """The rate fitted to samples [k, R] at x, and what a theorem says of it.

  `holds` judges the rate; `bound`, given its variant, has one for each point.
  """
  rate = mean_field.fit_rate(np.asarray(x), samples, statistic=statistic)
  row = {
    'statement': statement,
    'what': what,
    'x': np.asarray(x, float).tolist(),
    'levels': rate.levels.tolist(),
    'errors': rate.level_errors.tolist(),
    'slope': rate.slope,
    'low': rate.low,
    'high': rate.high,
    'local_slopes': rate.local_slopes.tolist(),
    'predicted': predicted,
    'holds': holds and holds(rate),
  }
  if bound is None:
    return row
  bounds = {name: bound(variant) for name, variant in VARIANTS.items()}
  below = bool(np.all(rate.levels <= np.array(bounds['sharp_bound'])))
  return row | {'bound_holds': below, **bounds}


def value_row(
  statement: str,
  what: str,
  value: float,
  reach: float,
  predicted: float,
  holds: bool | None = None,
) -> Row:
  """A number with its interval, in which the prediction should lie."""
  if holds is None:
    holds = abs(value - predicted) <= reach
  return {
    'statement': statement,
    'what': what,
    'slope': float(value),
    'low': value - reach,
    'high': value + reach,
    'predicted': predicted,
    'holds': bool(holds),
  }
