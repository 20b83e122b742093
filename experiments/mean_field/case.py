"""One setting in which the statements are measured, and rows about it."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from experiments.common import program
from experiments.common.cells import Row
from htjax import mean_field
from htjax.mean_field import Problem
from htjax.types import Array, PRNGKey

# Bounds drawn, and the variant of the theorem that each is.
VARIANTS = {'bound': 'corrected', 'sharp_bound': 'sharp'}


class Case(NamedTuple):
  """The settings of one cell.

  Attributes:
    config: of the run.
    key: typed key of this cell.
    alpha: tail index of the noise.
    kind: its type.
  """

  config: ConfigDict
  key: PRNGKey
  alpha: float
  kind: str

  @property
  def problem(self) -> Problem:
    """The data of the config."""
    c = self.config
    return make_problem(c.seed, c.dim, c.num_data)

  @property
  def constants(self) -> mean_field.Regularity:
    """B and its parts, of the problem."""
    c = self.config
    return _regularity(c.seed, c.dim, c.num_data)

  @property
  def noise(self) -> dict[str, Any]:
    """The noise of most studies."""
    return {
      'alpha': self.alpha,
      'sigma': self.config.sigma,
      'kind': self.kind,
    }

  @property
  def num_steps(self) -> int:
    """Steps of the config's size to its horizon."""
    return round(self.config.horizon / self.config.step_size)

  @property
  def process(self) -> dict[str, Any]:
    """Noise and time of the studies of the width."""
    time = {'step_size': self.config.step_size, 'num_steps': self.num_steps}
    return self.noise | time

  def start(self, key: PRNGKey, n: int) -> Array:
    """N(0, I) particles [n, dim]."""
    return jax.random.normal(key, (n, self.config.dim))

  def end(
    self,
    key: PRNGKey,
    particles: Array,
    step_size: float,
    num_steps: int,
    **changes: Any,
  ) -> Array:
    """Particles [n, p] after so many steps."""
    settings = {'problem': self.problem, **self.noise, **changes}
    return mean_field.simulate(
      key,
      particles=particles,
      step_size=step_size,
      num_steps=num_steps,
      **settings,
    ).particles[-1]

  def systems(
    self,
    sizes: Sequence[int],
    num: int,
    clock: Callable[[int], tuple[float, int]],
    measure: Callable[[Array], Array],
  ) -> np.ndarray:
    """A quantity of whole systems, under the noise `size_sigma`.

    Args:
      sizes: numbers of particles.
      num: systems of each size.
      clock: size -> (step size, number of steps).
      measure: particles [n, p] at the end -> array.

    Returns:
      [len(sizes), num, ..].
    """

    def of_size(n: int) -> np.ndarray:
      def one(own):
        start_key, noise_key = jax.random.split(own)
        start = self.start(start_key, n)
        sigma = self.config.size_sigma
        return measure(self.end(noise_key, start, *clock(n), sigma=sigma))

      keys = jax.random.split(jax.random.fold_in(self.key, n), num)
      return np.asarray(jax.jit(lambda k: lax.map(one, k))(keys))

    return np.stack([of_size(n) for n in sizes])

  def replicas(self, num: int) -> dict[str, Any]:
    """How a study spreads its replicas over devices."""
    mesh = program.mesh()
    share = num if mesh is None else num // mesh.size
    on_cpu = jax.default_backend() == 'cpu'
    return {
      'num_replicas': num,
      'at_once': self.config.at_once or (1 if on_cpu else share),
      'mesh': mesh,
    }

  def largest_norm(self, key: PRNGKey, n: int) -> float:
    """E max over n of |X|, X standard stable of this case."""
    key, samples = jax.random.fold_in(key, n), self.config.norm_samples
    return mean_field.mean_largest_norm(
      key, self.alpha, n, self.config.dim, self.kind, num_samples=samples
    )


@functools.lru_cache
def make_problem(seed: int, dim: int, num_data: int) -> Problem:
  """tanh units and the log cosh loss on Gaussian inputs of length about 1."""
  inputs = np.random.default_rng(seed).normal(size=(num_data, dim))
  inputs /= math.sqrt(dim)
  return Problem(
    _tanh_unit,
    _log_cosh,
    jnp.asarray(inputs, jnp.float32),
    jnp.asarray(np.sin(2 * inputs[:, 0]), jnp.float32),
  )


@functools.lru_cache
def _regularity(*settings: int) -> mean_field.Regularity:
  return mean_field.regularity(make_problem(*settings))


def _tanh_unit(theta: Array, x: Array) -> Array:
  return jnp.tanh(theta @ x)


def _log_cosh(f: Array, y: Array) -> Array:
  return jnp.logaddexp(f - y, y - f) - math.log(2)


def rate_row(
  statement: str,
  what: str,
  x: Sequence[float],
  rate: mean_field.Rate,
  predicted: float | None,
  holds: bool | None,
  **more: Any,
) -> Row:
  """The points of a fitted rate, its slope, and what a theorem says."""
  return {
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
    'holds': holds,
    **more,
  }


def value_row(
  statement: str,
  what: str,
  value: float,
  reach: float,
  predicted: float,
  holds: bool,
) -> Row:
  """A number with its interval value +- reach, and what a theorem says."""
  return {
    'statement': statement,
    'what': what,
    'slope': float(value),
    'low': value - reach,
    'high': value + reach,
    'predicted': predicted,
    'holds': bool(holds),
  }


def below(levels: np.ndarray, bounds: dict[str, list[float]]) -> Row:
  """Bounds of each point, and whether the sharp one holds at all of them."""
  holds = bool(np.all(levels <= bounds['sharp_bound']))
  return {'bound_holds': holds, **bounds}
