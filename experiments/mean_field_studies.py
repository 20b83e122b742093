"""What `experiments/mean_field.py` measures, cell by cell.

A row of a study of rates holds the points that its figure shows, the fitted
slope with its interval, what the theorem predicts, and whether it holds:

  study, statement, alpha, kind, what      what is measured, in plain words
  x, levels, errors, bound, sharp_bound    lists, one entry per point
  slope, low, high, predicted              the rate
  holds, bound_holds                       booleans, or null without a claim
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from experiments import program
from htjax import compressibility, mean_field, stable
from htjax.mean_field import Problem

Row = dict[str, Any]

# The decay of the linear drift, whose stable Ornstein-Uhlenbeck process has a
# law in closed form.
_DECAY = 0.7


class Cell(NamedTuple):
  """A piece of a study that is kept once it is done."""

  name: str
  measure: Callable[[Problem], list[Row]]


def cells(config: ConfigDict) -> list[Cell]:
  """Everything that the config asks for, in the order of the table."""
  both = [(a, k) for a in config.alphas for k in config.kinds]
  plans = {
    'chaos': (_chaos, both),
    'euler': (_euler, both),
    'euler_width': (
      _euler_width,
      [(a, config.kinds[-1]) for a in config.alphas],
    ),
    'linear': (_linear, both),
    'tail': (
      _tail,
      [(a, k) for a in config.tail_alphas for k in config.kinds[:1]],
    ),
    'second_moment': (
      _second_moment,
      [(a, config.kinds[0]) for a in config.alphas],
    ),
    'compressibility': (
      _compressibility,
      [(a, config.kinds[0]) for a in config.alphas if a < 2],
    ),
    'gaussian_limit': (_gaussian_limit, [(2.0, 'type2')]),
    'step_condition': (
      _step_condition,
      [(config.tail_alphas[-1], config.kinds[0])],
    ),
    'gradient': (_gradient, [(config.gradient_alpha, config.kinds[0])]),
    'infinite_mean': (
      _infinite_mean,
      [(a, 'type1') for a in config.mean_alphas],
    ),
    'largest_norm': (
      _largest_norm,
      [(a, k) for a in config.mean_alphas for k in config.kinds],
    ),
    'controls': (_controls, [(config.tail_alphas[-1], config.kinds[-1])]),
  }
  return [
    Cell(
      f'{study} {alpha:g} {kind}',
      functools.partial(_rows, plans[study][0], config, study, alpha, kind),
    )
    for study in config.studies
    for alpha, kind in plans[study][1]
  ]


def make_problem(config: ConfigDict) -> Problem:
  """tanh units and the log cosh loss on Gaussian inputs of length about 1."""
  generator = np.random.default_rng(config.seed)
  inputs = generator.normal(size=(config.num_data, config.dim))
  inputs /= math.sqrt(config.dim)
  return Problem(
    _tanh_unit,
    _log_cosh,
    jnp.asarray(inputs, jnp.float32),
    jnp.asarray(np.sin(2 * inputs[:, 0]), jnp.float32),
  )


def _tanh_unit(theta, x):
  return jnp.tanh(theta @ x)


def _log_cosh(f, y):
  return jnp.logaddexp(f - y, y - f) - math.log(2)


def _rows(study, config, name, alpha, kind, problem) -> list[Row]:
  # A key of its own for each cell, whatever else the config asks for.
  letters = f'{name} {alpha:g} {kind}'.encode()
  key = jax.random.key(config.seed)
  for chunk in (letters[i : i + 4] for i in range(0, len(letters), 4)):
    key = jax.random.fold_in(key, int.from_bytes(chunk, 'little') % 2**31)
  common = {'study': name, 'alpha': alpha, 'kind': kind}
  return [common | row for row in study(key, config, problem, alpha, kind)]


def _rate_row(statement, what, x, rate, predicted, holds, **more) -> Row:
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


@functools.lru_cache
def _regularity(config_seed, dim, num_data):
  base = ConfigDict({'seed': config_seed, 'dim': dim, 'num_data': num_data})
  return mean_field.regularity(make_problem(base))


def _constants(config: ConfigDict) -> mean_field.Regularity:
  return _regularity(config.seed, config.dim, config.num_data)


def _replicas(config: ConfigDict, num: int) -> dict[str, Any]:
  """How a study spreads its replicas over devices."""
  mesh = program.mesh()
  share = num if mesh is None else num // mesh.size
  on_cpu = jax.default_backend() == 'cpu'
  return {
    'num_replicas': num,
    'at_once': config.at_once or (1 if on_cpu else share),
    'mesh': mesh,
  }


def _process(config: ConfigDict, alpha: float, kind: str) -> dict[str, Any]:
  return {
    'alpha': alpha,
    'sigma': config.sigma,
    'kind': kind,
    'step_size': config.step_size,
    'num_steps': round(config.horizon / config.step_size),
  }


def _chaos(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Theorem 4.2, and the dependence between particles."""
  errors = mean_field.propagation_of_chaos(
    key,
    problem,
    widths=config.widths,
    reference=config.reference,
    **_process(config, alpha, kind),
    **_replicas(config, config.replicas),
  )
  constants = _constants(config)
  bounds = {
    name: [
      mean_field.gronwall_constant(
        constants, config.horizon, variant=variant
      ).value
      / math.sqrt(n)
      for n in config.widths
    ]
    for name, variant in (('bound', 'corrected'), ('sharp_bound', 'sharp'))
  }
  fit = functools.partial(mean_field.fit_rate, config.widths)
  typical, largest = fit(errors.typical), fit(errors.largest)
  for what, rate, holds in (
    ('mean over i', typical, -0.55 <= typical.slope <= -0.45),
    ('sup over i', largest, None),
  ):
    below = np.all(rate.levels <= bounds['sharp_bound'])
    yield _rate_row(
      'Theorem 4.2',
      what,
      config.widths,
      rate,
      -0.5,
      holds,
      bound_holds=bool(below),
      **bounds,
    )
  # The sign of the dependence depends on the loss; its size decays.
  dependence = np.asarray(errors.correlation)
  dependence = dependence * np.sign(dependence.mean())
  if np.all(dependence.mean(axis=1) > 0):
    rate = fit(dependence)
    yield _rate_row(
      'Theorem 4.2', 'correlation', config.widths, rate, -1.0, rate.covers(-1.0)
    )


def _euler(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Theorem 4.1 in the step size."""
  yield from _euler_rows(
    key, config, problem, alpha, kind, config.euler_particles
  )


def _euler_rows(key, config, problem, alpha, kind, n, **changes):
  error_key, norm_key = jax.random.split(key)
  errors = mean_field.euler_error(
    error_key,
    problem,
    step_sizes=config.step_sizes,
    fine_step_size=config.fine_step_size,
    horizon=config.horizon,
    num_particles=n,
    alpha=alpha,
    sigma=config.sigma,
    kind=kind,
    **_replicas(config, config.euler_replicas),
    **changes,
  )
  rate = mean_field.fit_rate(config.step_sizes, errors.largest)
  settings = [(n, h) for h in config.step_sizes]
  bounds = _euler_bounds(norm_key, config, alpha, kind, settings)
  yield _rate_row(
    'Theorem 4.1',
    f'sup over i, n = {n}',
    config.step_sizes,
    rate,
    1 / alpha,
    rate.slope >= 1 / alpha - 0.05,
    bound_holds=bool(np.all(rate.levels <= bounds['sharp_bound'])),
    **bounds,
  )


def _euler_bounds(key, config, alpha, kind, settings) -> dict[str, list[float]]:
  """Both bounds for each (width, step size) of the settings."""
  widths = sorted({1, *(n for n, _ in settings)})
  norms = {
    n: _largest(jax.random.fold_in(key, n), config, alpha, n, kind)
    for n in widths
  }
  return {
    name: [
      mean_field.euler_bound(
        _constants(config),
        alpha=alpha,
        sigma=config.sigma,
        step_size=step_size,
        horizon=config.horizon,
        largest_norm=norms[n],
        mean_norm=norms[1],
        variant=variant,
      ).value
      for n, step_size in settings
    ]
    for name, variant in (('bound', 'corrected'), ('sharp_bound', 'sharp'))
  }


def _largest(key, config, alpha, n, kind) -> float:
  return mean_field.mean_largest_norm(
    key, alpha, n, config.dim, kind, num_samples=config.norm_samples
  )


def _euler_width(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Theorem 4.1 in the width, at the middle step size."""
  step_size = config.step_sizes[len(config.step_sizes) // 2]
  norm_key, *keys = jax.random.split(key, 1 + len(config.euler_widths))
  levels = []
  for n, own in zip(config.euler_widths, keys, strict=True):
    errors = mean_field.euler_error(
      own,
      problem,
      step_sizes=[step_size],
      fine_step_size=config.fine_step_size,
      horizon=config.horizon,
      num_particles=n,
      alpha=alpha,
      sigma=config.sigma,
      kind=kind,
      **_replicas(config, config.euler_replicas),
    )
    levels.append(errors.largest[0])
  rate = mean_field.fit_rate(config.euler_widths, jnp.stack(levels))
  settings = [(n, step_size) for n in config.euler_widths]
  bounds = _euler_bounds(norm_key, config, alpha, kind, settings)
  yield _rate_row(
    'Theorem 4.1',
    f'sup over i, step {step_size:g}',
    config.euler_widths,
    rate,
    1 / alpha,
    rate.slope <= 1 / alpha,
    bound_holds=bool(np.all(rate.levels <= bounds['sharp_bound'])),
    **bounds,
  )


def _linear(key, config, problem, alpha, kind) -> Iterator[Row]:
  """The law of one coordinate under the drift -lambda theta, from 0."""
  del problem
  settings = _process(config, alpha, kind)
  fine = settings['num_steps'] * 16
  for what, steps, exact in (
    ('scheme', settings['num_steps'], False),
    ('process', fine, True),
  ):
    eta = config.horizon / steps
    n = config.linear_particles if not exact else config.linear_particles // 16
    scale = _linear_scale(
      jax.random.fold_in(key, steps), n, config, settings, steps
    )
    s = 0.0
    for _ in range(steps):
      s = abs(1 - _DECAY * eta) ** alpha * s + config.sigma**alpha * eta
    expected = s ** (1 / alpha)
    if exact:
      decay = -math.expm1(-alpha * _DECAY * config.horizon)
      expected = config.sigma * (decay / (alpha * _DECAY)) ** (1 / alpha)
    measured, error = scale(expected, alpha)
    yield {
      'statement': 'eq. (3)' if not exact else 'eq. (4)',
      'what': f'scale of the {what}',
      'slope': measured,
      'low': measured - 5 * error,
      'high': measured + 5 * error,
      'predicted': expected,
      'holds': abs(measured - expected) <= 5 * error,
    }


def _linear_scale(key, n, config, settings, steps, exponent=None):
  """A function of the expected scale that measures that of particles."""
  eta = config.horizon / steps
  alpha = settings['alpha']
  sigma = config.sigma
  if exponent is not None:
    sigma = sigma * eta ** (exponent - 1 / alpha)
  problem = Problem(
    lambda theta, x: 0.5 * theta @ theta + 0 * x,
    lambda f, y: _DECAY * f + 0 * y,
    jnp.zeros(1),
    jnp.zeros(1),
  )
  dim = 1 if settings['kind'] == 'type1' else 2
  end = mean_field.simulate(
    key,
    problem,
    jnp.zeros((n, dim)),
    alpha=alpha,
    sigma=sigma,
    step_size=eta,
    num_steps=steps,
    kind=settings['kind'],
  ).particles[-1, :, 0]

  def measure(expected, alpha):
    # E cos(t X) = exp(-(scale t)^alpha), read at t = 1 / expected.
    cosine = np.cos(np.asarray(end, np.float64) / expected)
    phi, deviation = cosine.mean(), cosine.std() / math.sqrt(n)
    exponent = -math.log(phi)
    scale = expected * exponent ** (1 / alpha)
    return scale, scale * deviation / (alpha * phi * exponent)

  return measure


def _tail(key, config, problem, alpha, kind) -> Iterator[Row]:
  """The tail index and constant of the particles, at two times."""
  steps = config.tail_steps
  start_key, noise_key = jax.random.split(key)
  n, top = config.tail_particles, config.tail_top
  theta = jax.random.normal(start_key, (n, config.dim))
  eta = config.horizon / steps
  run = functools.partial(
    mean_field.simulate,
    problem=problem,
    alpha=alpha,
    sigma=config.sigma,
    step_size=eta,
    kind=kind,
  )
  early = max(1, steps // 10)
  for stage, (until, since) in enumerate(((early, 0), (steps, early))):
    stage_key = jax.random.fold_in(noise_key, stage)
    theta = run(stage_key, particles=theta, num_steps=until - since).particles[
      -1
    ]
    norms = np.asarray(_top_norms(theta, top + 1), np.float64)
    time = until * eta
    index = top / np.sum(np.log(norms[:top] / norms[top]))
    reach = 1.96 * index / math.sqrt(top)
    exact = mean_field.norm_tail_constant(alpha, config.dim, kind)
    exact *= config.sigma**alpha * time
    constant = top / n * norms[top] ** alpha
    yield {
      'statement': 'Theorem 4.3',
      'what': f'tail index at t = {time:g}',
      'slope': float(index),
      'low': index - reach,
      'high': index + reach,
      'predicted': alpha,
      'holds': bool(abs(index - alpha) <= reach),
    }
    # A count of `top` has a relative error of top^(-1/2).
    error = 1.96 * constant / math.sqrt(top)
    yield {
      'statement': 'Theorem 4.3',
      'what': f'tail constant at t = {time:g}',
      'slope': float(constant),
      'low': constant - error,
      'high': constant + error,
      'predicted': exact,
      'holds': bool(abs(constant / exact - 1) <= 0.1),
    }


@functools.partial(jax.jit, static_argnums=1)
def _top_norms(theta, top):
  return lax.top_k(jnp.linalg.norm(theta, axis=-1), top)[0]


def _ends(key, config, problem, alpha, kind, n, num, measure):
  """`measure` of the particles at the horizon, for `num` systems of size n."""
  steps = config.size_steps

  def one(own):
    start_key, noise_key = jax.random.split(own)
    theta = jax.random.normal(start_key, (n, config.dim))
    end = mean_field.simulate(
      noise_key,
      problem,
      theta,
      alpha=alpha,
      sigma=config.size_sigma,
      step_size=config.horizon / steps,
      num_steps=steps,
      kind=kind,
    ).particles[-1]
    return measure(end)

  return np.asarray(
    jax.jit(lambda keys: lax.map(one, keys))(jax.random.split(key, num))
  )


def _second_moment(key, config, problem, alpha, kind) -> Iterator[Row]:
  """The mean square norm grows with the number of particles below alpha 2."""

  def mean_square(theta):
    # Relative to the largest: a square overflows where a norm does not.
    norms = jnp.linalg.norm(theta, axis=-1)
    peak = norms.max()
    return 2 * jnp.log(peak) + jnp.log(jnp.mean((norms / peak) ** 2))

  levels = np.stack(
    [
      _ends(
        jax.random.fold_in(key, n),
        config,
        problem,
        alpha,
        kind,
        n,
        config.size_replicas,
        mean_square,
      )
      for n in config.sizes
    ]
  )
  rate = mean_field.fit_rate(
    config.sizes, np.exp(levels.astype(float)), statistic='median'
  )
  predicted = 2 / alpha - 1
  yield _rate_row(
    'Theorem 4.3',
    'mean square norm',
    config.sizes,
    rate,
    predicted,
    rate.covers(predicted),
  )


def _compressibility(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Errors of keeping kappa n columns vanish like n^(1/2 - 1/alpha)."""

  def errors(theta):
    norms = jnp.linalg.norm(theta, axis=-1)
    return compressibility.compression_error(
      norms, jnp.array(config.kappas), rounding='floor'
    )

  levels = np.stack(
    [
      _ends(
        jax.random.fold_in(key, n),
        config,
        problem,
        alpha,
        kind,
        n,
        config.size_replicas,
        errors,
      )
      for n in config.sizes
    ]
  )
  for i, kappa in enumerate(config.kappas):
    rate = mean_field.fit_rate(
      config.sizes, levels[:, :, i], statistic='median'
    )
    predicted = 1 / 2 - 1 / alpha
    yield _rate_row(
      'Theorem 3.1',
      f'compression error, kappa = {kappa:g}',
      config.sizes,
      rate,
      predicted,
      abs(rate.slope - predicted) <= 0.05,
    )


def _gaussian_limit(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Without heavy tails the error stays, at its closed form from N(0, I)."""
  free = Problem(
    _tanh_unit, lambda f, y: 0 * f + 0 * y, problem.inputs, problem.targets
  )
  theta = jax.random.normal(
    jax.random.fold_in(key, 1), (config.limit_particles, config.dim)
  )
  # Started from a Gaussian, moved by Gaussian noise alone: exactly Gaussian.
  for what, data in (('without drift', free), ('with drift', problem)):
    end = mean_field.simulate(
      # The same noise for both.
      jax.random.clone(key),
      data,
      theta,
      alpha=alpha,
      sigma=config.sigma,
      kind=kind,
      step_size=config.horizon / config.size_steps,
      num_steps=config.size_steps,
    ).particles[-1]
    norms = jnp.linalg.norm(end, axis=-1)
    kappas = jnp.array(config.kappas)
    measured = compressibility.compression_error(norms, kappas)
    limits = compressibility.gaussian_limit(kappas, dim=config.dim)
    for kappa, value, limit in zip(
      config.kappas, measured, limits, strict=True
    ):
      claimed = abs(float(value / limit) - 1) <= 0.01
      yield {
        'statement': 'Proposition A.1',
        'what': f'error {what}, kappa = {kappa:g}',
        'slope': float(value),
        'predicted': float(limit),
        # With drift only the limit's being above 0 is claimed.
        'holds': claimed if what == 'without drift' else bool(value > 0.01),
      }


def _step_condition(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Theorem 3.1 at its step size n^(-alpha/2 - 1), and at a larger one."""
  kappa = config.kappas[0]
  levels: dict[str, list[np.ndarray]] = {'n^(-alpha/2-1)': [], 'time / 10': []}
  for n in config.step_condition_sizes:
    time = config.step_condition_time
    for what in levels:
      small = what.startswith('n')
      steps = math.ceil(time * n ** (alpha / 2 + 1)) if small else 10

      def one(own, n=n, steps=steps, time=time):
        start_key, noise_key = jax.random.split(own)
        end = mean_field.simulate(
          noise_key,
          problem,
          jax.random.normal(start_key, (n, config.dim)),
          alpha=alpha,
          sigma=config.size_sigma,
          step_size=time / steps,
          num_steps=steps,
          kind=kind,
        ).particles[-1]
        norms = jnp.linalg.norm(end, axis=-1)
        return compressibility.compression_error(norms, kappa, rounding='floor')

      keys = jax.random.split(
        jax.random.fold_in(key, n), config.step_condition_replicas
      )
      levels[what].append(
        np.asarray(jax.jit(lambda k, f=one: lax.map(f, k))(keys))
      )
  for what, found in levels.items():
    rate = mean_field.fit_rate(
      config.step_condition_sizes, np.stack(found), statistic='median'
    )
    yield _rate_row(
      'Theorem 3.1',
      f'error at step {what}, kappa = {kappa:g}',
      config.step_condition_sizes,
      rate,
      None,
      bool(rate.slope < 0),
    )


def _gradient(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Proposition B.1's trade-off curve beside the gradients measured."""
  constants = _constants(config)
  n, iterations = config.gradient_particles, config.gradient_iterations

  def least(own, sigma, eta):
    start_key, noise_key = jax.random.split(own)
    theta = jax.random.normal(start_key, (n, config.dim))
    path = mean_field.simulate(
      noise_key,
      problem,
      theta,
      alpha=alpha,
      sigma=sigma,
      step_size=eta,
      num_steps=iterations,
      kind=kind,
      save_every=1,
    ).particles[:-1]

    def square(theta):
      b = mean_field.drift(problem, theta, theta)
      return jnp.sum(b * b) / n**2

    return lax.map(square, path), mean_field.risk(problem, theta)

  @jax.jit
  def measure(sigma, eta):
    # The same replicas at every setting.
    keys = jax.random.split(jax.random.clone(key), config.gradient_replicas)
    squares, risks = lax.map(lambda k: least(k, sigma, eta), keys)
    # min over k of the mean over replicas: replicas are read at that k.
    k = jnp.argmin(squares.mean(axis=0))
    return squares[:, k], risks.mean()

  def curve(what, x, settings):
    found = [measure(sigma, eta) for sigma, eta in settings]
    rate = mean_field.fit_rate(x, jnp.stack([f[0] for f in found]))
    printed = [
      mean_field.gradient_norm_bound(
        constants,
        excess_risk=float(f[1]),
        alpha=alpha,
        sigma=sigma,
        step_size=eta,
        num_steps=iterations,
        num_particles=n,
        gamma=config.gradient_gamma,
      )
      for f, (sigma, eta) in zip(found, settings, strict=True)
    ]
    return _rate_row(
      'Proposition B.1',
      what,
      x,
      rate,
      None,
      None,
      bound=[p.value for p in printed],
      bound_holds=bool(np.all(rate.levels <= [p.value for p in printed])),
      premises=[p.reason for p in printed],
    )

  sigmas, etas = config.gradient_sigmas, config.gradient_steps
  eta = etas[len(etas) // 2]
  yield curve(
    f'gradient against sigma, step {eta:g}', sigmas, [(s, eta) for s in sigmas]
  )
  sigma = sigmas[len(sigmas) // 2]
  yield curve(
    f'gradient against step, sigma {sigma:g}', etas, [(sigma, e) for e in etas]
  )


def _infinite_mean(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Lemma C.3: means of a variable of infinite mean leave every bound."""
  del problem, kind

  def mean_square(own, n):
    # In pieces, so that 10^6 draws of many replicas need no memory.
    piece = min(n, 10**5)

    def add(total, k):
      x = stable.sample(jax.random.fold_in(own, k), alpha, (piece,))
      return total + jnp.sum(jnp.square(jnp.minimum(x, 1e15))), None

    total, _ = lax.scan(add, jnp.zeros(()), jnp.arange(n // piece))
    return total / n

  shares, level = [], None
  for n in config.mean_sizes:
    keys = jax.random.split(jax.random.fold_in(key, n), config.mean_replicas)
    means = np.asarray(
      jax.jit(lambda k, n=n: lax.map(lambda o: mean_square(o, n), k))(keys)
    )
    level = float(np.median(means)) if level is None else level
    shares.append(float(np.mean(means <= level)))
  num = config.mean_replicas
  yield {
    'statement': 'Lemma C.3',
    'what': f'P(mean of n squares <= {level:.3g})',
    'x': list(map(float, config.mean_sizes)),
    'levels': shares,
    'errors': [math.sqrt(s * (1 - s) / num) for s in shares],
    'predicted': 0.0,
    'slope': shares[-1],
    'holds': shares[-1] < shares[0] / 2
    and shares[-1] <= min(shares) + 2 / math.sqrt(num),
  }


def _largest_norm(key, config, problem, alpha, kind) -> Iterator[Row]:
  """Lemma D.1: the mean largest of n norms, and its bounds."""
  del problem
  constant = _tail_supremum(key, config, alpha, kind)
  means = [
    _largest(jax.random.fold_in(key, n), config, alpha, n, kind)
    for n in config.norm_widths
  ]
  bounds = {
    variant: [
      mean_field.largest_norm_bound(alpha, n, constant, variant=variant).value
      for n in config.norm_widths
    ]
    for variant in ('sharp', 'corrected', 'paper')
  }
  slopes = np.diff(np.log(means)) / np.diff(np.log(config.norm_widths))
  yield {
    'statement': 'Lemma D.1',
    'what': 'mean of the largest norm',
    'x': list(map(float, config.norm_widths)),
    'levels': means,
    'errors': [0.03 * m / alpha for m in means],
    'slope': float(slopes[-1]),
    'predicted': 1 / alpha,
    'holds': bool(abs(slopes[-1] - 1 / alpha) <= 0.05),
    'bound': bounds['corrected'],
    'sharp_bound': bounds['sharp'],
    'paper_bound': bounds['paper'],
    'bound_holds': bool(np.all(np.array(means) <= bounds['sharp'])),
  }


def _tail_supremum(key, config, alpha, kind) -> float:
  """sup_r r^alpha P(|X| > r), from samples and the limit at large r."""
  x = stable.sample_vectors(
    jax.random.fold_in(key, 0),
    alpha,
    (config.norm_samples, config.dim),
    kind=kind,
  )
  norms = np.sort(np.linalg.norm(np.asarray(x, np.float64), axis=1))[::-1]
  ranks = np.arange(1, len(norms) + 1) / len(norms)
  # A thousand norms and more: 3 % of statistical error, and less above.
  found = np.max((norms**alpha * ranks)[len(norms) // 100 :])
  return max(
    float(found), mean_field.norm_tail_constant(alpha, config.dim, kind)
  )


def _controls(key, config, problem, alpha, kind) -> Iterator[Row]:
  """What must fail the checks above, and does."""
  chaos_key, euler_key, path_key, linear_key = jax.random.split(key, 4)
  process = _process(config, alpha, kind)
  path = mean_field.reference_path(
    path_key, problem, size=config.reference, **process
  )
  frozen = path._replace(
    outputs=jnp.broadcast_to(path.outputs[:1], path.outputs.shape)
  )
  for what, changes in (
    ('noise of its own', {'reference': path, 'common_noise': False}),
    ('drift frozen at t = 0', {'reference': frozen}),
  ):
    errors = mean_field.propagation_of_chaos(
      jax.random.clone(chaos_key),
      problem,
      widths=config.widths,
      **changes,
      **process,
      **_replicas(config, config.replicas),
    )
    rate = mean_field.fit_rate(config.widths, errors.typical)
    yield _rate_row(
      'Theorem 4.2',
      f'control: {what}',
      config.widths,
      rate,
      -0.5,
      -0.55 <= rate.slope <= -0.45,
    )
  for row in _euler_rows(
    euler_key,
    config,
    problem,
    alpha,
    kind,
    config.euler_particles,
    common_noise=False,
  ):
    yield row | {'what': 'control: noise of its own'}
  steps = process['num_steps']
  measure = _linear_scale(
    linear_key, config.linear_particles, config, process, steps, exponent=0.5
  )
  eta, s = config.horizon / steps, 0.0
  for _ in range(steps):
    s = abs(1 - _DECAY * eta) ** alpha * s + config.sigma**alpha * eta
  measured, error = measure(s ** (1 / alpha), alpha)
  yield {
    'statement': 'eq. (3)',
    'what': 'control: noise scaled by eta^(1/2)',
    'slope': measured,
    'low': measured - 5 * error,
    'high': measured + 5 * error,
    'predicted': s ** (1 / alpha),
    'holds': bool(abs(measured - s ** (1 / alpha)) <= 5 * error),
  }
