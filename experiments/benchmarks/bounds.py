"""Cost of all bounds on FCN4, 14 million weights: seconds and memory."""

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.timing import cold_environment, run_command
from htjax import bounds, models
from htjax.bounds import (
  baselines,
  cushions,
  gaussian_compression,
  heavy_tails,
  magnitude_sketching,
  networks,
  spectral,
)

_WIDTH, _SMALL_WIDTH = 2048, 32
_SAMPLES, _SMALL_SAMPLES = 60_000, 500
# Examples that curvatures, cushions and smoothness are measured on.
_FEW = 50
_GAMMA, _DELTA, _KEPT, _VALUES = 0.1, 0.05, 1 / 60, 255

Step = tuple[str, Callable[[], None]]

_SCRIPT = """
import json
from experiments.benchmarks import bounds
print(json.dumps(bounds.measure({small})))
"""


def cost(small: bool) -> dict[str, Any]:
  """`measure` in a process of its own."""
  script = _SCRIPT.format(small=small)
  _, printed = run_command([sys.executable, '-c', script], cold_environment())
  return json.loads(printed.splitlines()[-1])


def measure(small: bool) -> dict[str, Any]:
  """Every ingredient and bound once, compilation included.

  Returns:
    The number of weights; for each step its seconds, CPU seconds and the
    memory in use at the peak so far, above that of the imports; their sums.
  """
  before = _peak()
  layers, start, x = _network(small)
  found: dict[str, Any] = {}
  lines = []
  for name, call in (
    *_measurements(layers, start, x, found),
    *_risks(layers, len(x), found),
  ):
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    lines.append(
      {
        'what': name,
        'seconds': time.perf_counter() - wall,
        'cpu': time.process_time() - cpu,
        'peak_gib': _peak() - before,
      }
    )
  return {
    'weights': sum(w.size for w in layers),
    'samples': len(x),
    'lines': lines,
    'seconds': sum(line['seconds'] for line in lines),
    'peak_gib': _peak() - before,
    'data_gib': x.nbytes / 2**30,
    'weights_gib': sum(w.nbytes for w in layers) / 2**30,
  }


def _peak() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _network(small: bool):
  """A network at He's scale and Gaussian inputs of the size of MNIST."""
  width = _SMALL_WIDTH if small else _WIDTH
  network = models.fcn(784, width, 10, hidden_layers=4)

  @jax.jit
  def make(key):
    first, second, data = jax.random.split(key, 3)
    params = jax.tree.map(lambda w: w * math.sqrt(6.0), network.init(first))
    x = jax.random.normal(data, (_SMALL_SAMPLES if small else _SAMPLES, 784))
    return params, network.init(second), x

  params, start, x = make(jax.random.key(0))
  return networks.dense_layers(params), networks.dense_layers(start), x


def _loss(layers, x, label):
  logits = networks.pre_activations(layers, x[None])[-1][0]
  return -jax.nn.log_softmax(logits)[label]


def _measurements(layers, start, x, found) -> Iterator[Step]:
  """Everything that the bounds ask for; put into `found` as it is made."""
  few = x[:_FEW]

  def keep(**calls: Callable[[], Any]) -> Callable[[], None]:
    def call():
      for name, function in calls.items():
        found[name] = jax.block_until_ready(function())

    return call

  yield (
    'outputs on all inputs',
    keep(
      logits=lambda: networks.outputs(layers, x),
      labels=lambda: jnp.argmax(found['logits'], axis=1),
      margins=lambda: np.asarray(
        bounds.margins(found['logits'], found['labels'])
      ),
    ),
  )
  yield (
    'norms of the layers',
    keep(
      norms=lambda: spectral.layer_norms(layers, start),
      input_norm=lambda: float(np.max(_lengths(x))),
      data_norm=lambda: float(np.linalg.norm(_lengths(x))),
      output_norm=lambda: float(np.max(_lengths(found['logits']))),
    ),
  )
  yield (
    f'layer cushions and contraction, {_FEW} inputs',
    keep(
      cushions=lambda: cushions.layer_cushions(layers, few),
      contraction=lambda: float(cushions.activation_contraction(layers, few)),
    ),
  )
  yield (
    f'interlayer cushions, {_FEW} inputs, {_FEW} probes',
    keep(
      interlayer=lambda: (
        cushions.interlayer_cushions(
          layers, few, key=jax.random.key(1), num_probes=_FEW
        ).minimal
      )
    ),
  )
  yield (
    f'smoothness, {_FEW} inputs, {_FEW} draws',
    keep(
      smoothness=lambda: float(
        cushions.interlayer_smoothness(
          jax.random.key(2),
          layers,
          few,
          delta=_DELTA,
          noise_scale=0.01,
          num_draws=_FEW,
        )
      )
    ),
  )
  yield (
    f'curvatures of the layers, {_FEW} inputs',
    keep(
      curvatures=lambda: baselines.layer_curvatures(
        _loss, layers, start, few, found['labels'][:_FEW], num_steps=1
      )
    ),
  )


def _risks(layers, num_samples, found) -> Iterator[Step]:
  """Every bound on the risk; options that are functions are called first."""
  shapes = [w.shape for w in layers]
  sizes = [w.size for w in layers]

  def risk(function, *arguments, **options):
    def call():
      made = {k: v() if callable(v) else v for k, v in options.items()}
      bound = function(*arguments or (found['margins'],), **made)
      if not math.isfinite(bound.log_value):
        raise ValueError(f'{function.__name__} must be finite, got {bound}')

    return call

  def of(name: str) -> Callable[[], Any]:
    return lambda: found[name]

  def norm(name: str) -> Callable[[], Any]:
    return lambda: getattr(found['norms'], name)

  margin = {'gamma': _GAMMA, 'delta': _DELTA}
  cushions = {
    name: of(name)
    for name in ('cushions', 'interlayer', 'contraction', 'smoothness')
  }
  network_size = {
    'input_norm': of('input_norm'),
    'num_layers': len(layers),
    'num_weights': sum(sizes),
    'radius': lambda: float(np.linalg.norm(found['norms'].frobenius)),
    **{'kappa': 0.3, 'epsilon': 0.3, 'tau': _GAMMA, 'delta': _DELTA},
  }
  stable = {
    'alphas': [1.8] * len(layers),
    'scales': [float(np.std(w)) for w in layers],
    'layer_sizes': sizes,
    'kappas': [0.3] * len(layers),
    **{'epsilon': 0.3, 'tau': _GAMMA, 'input_norm': of('input_norm')},
  }
  count = {
    'gamma': _GAMMA,
    'output_error': lambda: _output_error(layers, found),
    'shapes': shapes,
    'num_values': _VALUES,
  }
  width = max(shapes[1])
  yield from {
    'HT Theorem 4': risk(heavy_tails.compressed_risk, **network_size),
    'HT Theorem S6': risk(heavy_tails.uncompressed_risk, **network_size),
    'HT Corollary S2': risk(
      heavy_tails.stable_compressed_risk, **stable, beta=0.1
    ),
    'SH Theorem 2': risk(
      gaussian_compression.compressed_risk,
      weights=layers,
      output_norm=of('output_norm'),
      num_values=_VALUES,
      **cushions,
      **margin,
    ),
    'SK Theorem 5.2': risk(
      magnitude_sketching.sketched_risk, kept=_KEPT, factors=3.0, **count
    ),
    'SK Theorem E.1': risk(
      magnitude_sketching.naive_risk,
      nonzeros=[math.ceil(_KEPT * size) for size in sizes],
      delta=_DELTA,
      **count,
    ),
    'Neyshabur 2015': risk(
      baselines.neyshabur_2015,
      frobenius=norm('frobenius'),
      input_norm=of('input_norm'),
      **margin,
    ),
    'Neyshabur 2017': risk(
      baselines.neyshabur_2017,
      spectral=norm('spectral'),
      frobenius=norm('frobenius'),
      width=width,
      input_norm=of('input_norm'),
      **margin,
    ),
    'Bartlett 2017': risk(
      baselines.bartlett_2017,
      spectral=norm('spectral'),
      two_one=norm('two_one'),
      width=width,
      data_norm=of('data_norm'),
      **margin,
    ),
    'Arora 2018': risk(
      baselines.arora_2018, output_norm=of('output_norm'), **cushions, **margin
    ),
    'Ju 2022': risk(
      baselines.ju_2022,
      0.0,
      curvatures=of('curvatures'),
      num_samples=num_samples,
      loss_bound=10.0,
    ),
  }.items()


def _output_error(layers, found) -> bounds.Bound:
  strength = magnitude_sketching.pruning_strength(_KEPT)
  return magnitude_sketching.pruned_output_error(
    found['norms'].spectral,
    np.array(
      [
        magnitude_sketching.pruning_error(
          w.shape, variance=_mean_square(w), strength=strength
        ).value
        for w in layers
      ]
    ),
    input_norm=found['input_norm'],
    multipliers=2.0 * len(layers),
  )


def _lengths(rows) -> np.ndarray:
  return np.sqrt(np.einsum('ij,ij->i', rows, rows))


def _mean_square(w) -> float:
  return float(np.mean(np.square(w)))
