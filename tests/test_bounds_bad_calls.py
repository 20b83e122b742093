"""Bad calls of every public function of the bounds: a clear error, or none.

One argument of a good call is replaced at a time. What is refused is refused by
a ValueError that names an argument of the function; what is not refused must
be answered.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import bounds, mean_field
from htjax.bounds import (
  baselines,
  binomial,
  certificates,
  codes,
  cushions,
  gaussian_compression,
  heavy_tails,
  magnitude_sketching,
  networks,
  spectral,
)

MARGINS = np.linspace(0.1, 5, 50)
DRAWS = np.random.default_rng(0)
LAYERS = [
  jnp.asarray(DRAWS.normal(size=s), jnp.float32) for s in ((4, 5), (5, 3))
]
X = jnp.asarray(DRAWS.normal(size=(6, 4)), jnp.float32)
Y = jnp.array([0, 1, 2, 0, 1, 2])
KEY = jax.random.key(0)
ERROR = magnitude_sketching.pruned_output_error(
  [1.0, 1.0], [0.01, 0.01], input_norm=1.0, multipliers=3.0
)
REGULARITY = mean_field.Regularity(
  *(np.full(3, 0.5) for _ in range(5)), True, ''
)
CODE = codes.encode([np.ones(3)])
FIRST = np.ones(3)
DIFFERENCE = codes.encode_difference([2 * FIRST], [FIRST])


def loss(layers, x, y):
  return jnp.sum(networks.pre_activations(layers, x[None])[-1])


GOOD = [
  (bounds.margins, {'logits': X[:, :3], 'labels': Y}),
  (bounds.margin_loss, {'logits': X[:, :3], 'labels': Y, 'gamma': 0.1}),
  (
    bounds.ramp_loss,
    {'logits': X[:, :3], 'labels': Y, 'gamma': 0.1, 'tau': 0.2},
  ),
  (binomial.log_sf, {'k': 2, 'n': 5, 'p': 0.5}),
  (binomial.log_coefficient, {'n': 5, 'k': 2}),
  (
    networks.dense_layers,
    {'params': {'a_0': {'kernel': LAYERS[0]}, 'out': {'kernel': LAYERS[1]}}},
  ),
  (
    networks.pre_activations,
    {'layers': LAYERS, 'x': X, 'activation': jax.nn.relu},
  ),
  (
    spectral.spectral_norm,
    {'matrix': LAYERS[0], 'tolerance': 1e-3, 'max_iterations': 5, 'key': KEY},
  ),
  (
    spectral.operator_norm,
    {
      'function': lambda v: 2 * v,
      'shape': (3,),
      'dtype': jnp.float32,
      'tolerance': 1e-3,
      'max_iterations': 5,
      'key': KEY,
    },
  ),
  (
    spectral.conv_spectral_norm,
    {
      'kernel': jnp.ones((2, 2, 1, 1)),
      'image_shape': (3, 3),
      'padding': 'SAME',
    },
  ),
  (spectral.stable_rank, {'matrix': LAYERS[0]}),
  (spectral.layer_norms, {'layers': LAYERS, 'reference': LAYERS}),
  (
    cushions.layer_cushions,
    {'layers': LAYERS, 'x': X, 'activation': jax.nn.relu},
  ),
  (
    cushions.interlayer_cushions,
    {
      'layers': LAYERS,
      'x': X,
      'activation': jax.nn.relu,
      'key': KEY,
      'num_probes': 2,
    },
  ),
  (
    cushions.activation_contraction,
    {'layers': LAYERS, 'x': X, 'activation': jax.nn.relu},
  ),
  (
    cushions.interlayer_smoothness,
    {
      'key': KEY,
      'layers': LAYERS,
      'x': X,
      'delta': 0.5,
      'noise_scale': 0.1,
      'num_draws': 4,
      'activation': jax.nn.relu,
    },
  ),
  (
    heavy_tails.output_change,
    {'norms': [1.0, 2.0], 'changes': [0.1, 0.1], 'input_norm': 1.0},
  ),
  (
    heavy_tails.radius_output_change,
    {'radius': 1.0, 'num_layers': 2, 'change': 0.1, 'input_norm': 1.0},
  ),
  (
    heavy_tails.relative_output_change,
    {'radius': 1.0, 'num_layers': 2, 'epsilon': 0.1, 'input_norm': 1.0},
  ),
  (
    gaussian_compression.spectral_output_change,
    {
      'spectral': [1.0, 2.0],
      'changes': [0.1, 0.1],
      'input_norm': 1.0,
      'lipschitz': 1.0,
      'gains': 1.0,
    },
  ),
  (heavy_tails.norm_quantile, {'norms': [1.0, 2.0], 'delta': 0.5}),
  (
    heavy_tails.log_lipschitz_constant,
    {'radius': 1.0, 'num_layers': 2, 'input_norm': 1.0, 'tau': 1.0},
  ),
  (gaussian_compression.rebalance, {'layers': LAYERS}),
  (
    gaussian_compression.power_brackets,
    {'matrix': LAYERS[0], 'base': 1.5, 'top': 2, 'variant': 'corrected'},
  ),
  (
    magnitude_sketching.pruning_error_tail,
    {'shape': (4, 5), 'variance': 1.0, 'strength': 0.5, 'delta': 0.1},
  ),
  (
    magnitude_sketching.filter_sketch_dimension,
    {'in_channels': 3, 'out_channels': 8, 'side': 4, 'exponent': 0.5},
  ),
  (
    magnitude_sketching.lottery_subnetwork,
    {
      'key': KEY,
      'target': [[[0.5, -0.5]], [[0.2], [0.3]]],
      'num_candidates': 16,
    },
  ),
  (
    heavy_tails.element_tail,
    {'level': 50.0, 'alpha': 1.5, 'scale': 1.0, 'variant': 'corrected'},
  ),
  (
    heavy_tails.sharp_norm_quantile,
    {'delta': 0.1, 'alphas': 1.5, 'scales': 1.0, 'layer_sizes': [10, 20]},
  ),
  (heavy_tails.log_factorial_bounds, {'a': 3, 'half': False}),
  (
    heavy_tails.compression_failure,
    {'errors': [[0.1, 0.2], [0.3, 0.1]], 'epsilon': 0.2, 'delta': 0.05},
  ),
  (
    heavy_tails.risk_table,
    {
      'margins': MARGINS,
      'layers': LAYERS,
      'compressed': LAYERS,
      'radius': 3.0,
      'tau': 0.5,
      'delta': 0.1,
      'input_norm': 1.0,
      'compression_failure': 0.0,
      'alphas': 1.5,
      'scales': 1.0,
      'beta': 1.0,
      'variant': 'corrected',
    },
  ),
  (
    heavy_tails.relative_errors,
    {'layers': [np.ones(3)], 'compressed': [np.zeros(3)], 'p': 1.0},
  ),
  (
    heavy_tails.compressed_risk,
    {
      'margins': MARGINS,
      'radius': 1.0,
      'kappa': 0.5,
      'epsilon': 0.1,
      'tau': 0.1,
      'delta': 0.1,
      'input_norm': 1.0,
      'num_layers': 2,
      'num_weights': 30,
      'compression_failure': 0.0,
      'variant': 'paper',
    },
  ),
  (
    heavy_tails.uncompressed_risk,
    {
      'margins': MARGINS,
      'radius': 1.0,
      'kappa': 0.5,
      'epsilon': 0.1,
      'tau': 0.1,
      'delta': 0.1,
      'input_norm': 1.0,
      'num_layers': 2,
      'num_weights': 30,
      'compression_failure': 0.0,
      'variant': 'sharp',
    },
  ),
  (heavy_tails.normalized_scale, {'alpha': 1.5}),
  (
    heavy_tails.stable_norm_quantile,
    {
      'delta': 0.1,
      'alphas': [1.5, 1.6],
      'scales': 1.0,
      'layer_sizes': [20, 10],
    },
  ),
  (
    heavy_tails.stable_compressed_risk,
    {
      'margins': MARGINS,
      'alphas': [1.5, 1.6],
      'scales': 1.0,
      'layer_sizes': [20, 10],
      'kappas': 0.5,
      'epsilon': 0.1,
      'tau': 0.1,
      'input_norm': 1.0,
      'beta': 0.1,
      'compression_failure': 0.0,
      'variant': 'paper',
    },
  ),
  (heavy_tails.kept_fraction, {'layer_sizes': [20, 10], 'kappas': 0.5}),
  (heavy_tails.entropy_excess, {'kappa': 0.5, 'num_samples': 10}),
  (
    heavy_tails.volume_factor,
    {'epsilon': 0.1, 'kappa': 0.5, 'num_weights': 20},
  ),
  (heavy_tails.log_binomial_bound, {'n': 5, 'm': 2}),
  (heavy_tails.log_gamma_ratio_bound, {'n': 12, 'm': 2.0}),
  (
    heavy_tails.log_covering_sparse,
    {'num_weights': 20, 'kappa': 0.5, 'radius': 1.0, 'resolution': 0.5},
  ),
  (
    heavy_tails.log_covering_compressible,
    {
      'num_weights': 20,
      'kappa': 0.5,
      'epsilon': 0.5,
      'radius': 1.0,
      'resolution': 0.1,
    },
  ),
  (
    heavy_tails.covering_radius,
    {'radius': 1.0, 'kappa': 0.5, 'num_samples': 20},
  ),
  (
    heavy_tails.concentration_exponent,
    {'kappa': 0.5, 'num_weights': 20, 'num_samples': 20},
  ),
  (
    gaussian_compression.code_length_nats,
    {'kept': [1, 2], 'sizes': [3, 4], 'num_values': 4, 'positions': True},
  ),
  (
    gaussian_compression.finite_class,
    {'margins': MARGINS, 'gamma': 0.1, 'log_count': 5.0, 'delta': 0.1},
  ),
  (
    gaussian_compression.bilinear_tail,
    {
      'epsilon': 0.1,
      'threshold': 0.1,
      'noise_variance': 0.1,
      'variant': 'paper',
    },
  ),
  (
    gaussian_compression.noise_budget,
    {'epsilon': 0.1, 'eta': 0.1, 'variant': 'paper'},
  ),
  (
    gaussian_compression.layer_error,
    {
      'threshold': 0.1,
      'noise_variance': 0.1,
      'delta': 0.1,
      'num_pairs': 3,
      'num_rows': 3,
    },
  ),
  (gaussian_compression.heavy_fraction, {'alpha': 1.5, 'threshold_ratio': 2.0}),
  (
    gaussian_compression.nonzero_tail,
    {'count': 3.0, 'num_entries': 5, 'rate': 0.1},
  ),
  (
    gaussian_compression.heavy_second_moment,
    {
      'x': [1.0, 2.0],
      'alpha': 2.5,
      'minimum': 1.0,
      'threshold': 2.0,
      'variant': 'paper',
    },
  ),
  (
    gaussian_compression.stable_density_tail,
    {'w': 3.0, 'alpha': 1.5, 'scale': 1.0},
  ),
  (
    gaussian_compression.bracket_rate,
    {'index': 1.0, 'alpha': 1.5, 'base': 2.0},
  ),
  (
    gaussian_compression.bracket_tail,
    {'index': 1.0, 'alpha': 1.5, 'base': 2.0, 'top': 3.0, 'row_length': 20},
  ),
  (
    gaussian_compression.bracket_tails,
    {
      'indices': [0.0, 1.0],
      'alphas': [1.5, 1.8],
      'base': 2.0,
      'top': 3.0,
      'row_length': 20,
    },
  ),
  (
    gaussian_compression.compressed_risk,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'weights': LAYERS,
      'cushions': [0.1, 0.1],
      'interlayer': [0.1, 0.1],
      'contraction': 1.0,
      'smoothness': 10.0,
      'output_norm': 1.0,
      'delta': 0.1,
      'num_values': 4,
      'noise_fraction': 0.5,
      'positions': True,
      'variant': 'paper',
    },
  ),
  (gaussian_compression.margin_change, {'error': 0.1, 'gamma': 0.1}),
  (
    gaussian_compression.accumulated_error,
    {'epsilon': 0.1, 'index': 1, 'num_layers': 2, 'smoothness': 7.0},
  ),
  (
    gaussian_compression.balanced_norm,
    {
      'contraction': 1.0,
      'output_norm': 1.0,
      'input_norm': 1.0,
      'cushions': [0.1],
    },
  ),
  (
    gaussian_compression.discretization_change,
    {
      'resolution': 0.1,
      'num_parameters': 5,
      'frobenius': 1.0,
      'contraction': 1.0,
      'output_norm': 1.0,
      'cushions': [0.1],
      'tau': 0.1,
    },
  ),
  (
    gaussian_compression.log_covering,
    {'num_parameters': 5, 'log_constant': 1.0, 'resolution': 0.1},
  ),
  (
    gaussian_compression.dudley_integral,
    {'upper': 0.1, 'num_parameters': 5, 'log_constant': 1.0},
  ),
  (magnitude_sketching.kept_probability, {'strength': 1.0}),
  (magnitude_sketching.pruning_strength, {'kept': 0.5}),
  (
    magnitude_sketching.pruning_moment,
    {'order': 2.0, 'variance': 1.0, 'strength': 1.0},
  ),
  (
    magnitude_sketching.latala_norm,
    {'second': np.ones((2, 3)), 'fourth': np.ones((2, 3)), 'constant': 1.0},
  ),
  (
    magnitude_sketching.pruning_error,
    {
      'shape': (3, 4),
      'variance': 1.0,
      'strength': 1.0,
      'multiplier': 1.0,
      'constant': 1.0,
    },
  ),
  (
    magnitude_sketching.rounding_error,
    {'resolution': 0.1, 'nonzeros': 3, 'variant': 'paper'},
  ),
  (magnitude_sketching.num_grid_values, {'largest': 1.0, 'resolution': 0.1}),
  (
    magnitude_sketching.low_rank_gain,
    {
      't': 0.1,
      'input_dimension': 5,
      'rank': 2,
      'num_inputs': 3,
      'a': 1.0,
      'b': 1.0,
      'variant': 'paper',
    },
  ),
  (
    magnitude_sketching.pruned_output_error,
    {
      'spectral': [1.0, 1.0],
      'pruning': [0.01, 0.01],
      'input_norm': 1.0,
      'multipliers': 3.0,
      'rounding': 0.0,
      'lipschitz': 1.0,
      'gains': 1.0,
      'gain_failure': 0.0,
    },
  ),
  (
    magnitude_sketching.balls_in_bins,
    {'num_balls': 5, 'num_bins': 3, 'variant': 'paper'},
  ),
  (
    magnitude_sketching.distributed_sparsity,
    {'shape': (5, 6), 'kept': 0.5, 'factor': 1.0, 'variant': 'paper'},
  ),
  (
    magnitude_sketching.least_factor,
    {'shape': (5, 6), 'kept': 0.5, 'failure': 0.1},
  ),
  (
    magnitude_sketching.expected_nonzeros,
    {'shape': (5, 6), 'kept': 0.5, 'variant': 'paper'},
  ),
  (
    magnitude_sketching.affordable_strength,
    {'needed': abs, 'gamma': 1.0, 'high': 2.0, 'tolerance': 0.1},
  ),
  (
    magnitude_sketching.narrowing_gain,
    {'fan_in': 9, 'fan_out': 3, 'num_inputs': 7, 'failure': 0.01},
  ),
  (
    magnitude_sketching.sketched_risk,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'output_error': ERROR,
      'shapes': [(5, 6), (6, 3)],
      'kept': 0.5,
      'num_values': 4,
      'factors': 1.0,
      'recovery_exponent': 2.0,
      'constant': 1.0,
      'variant': 'paper',
    },
  ),
  (
    magnitude_sketching.count_lengths_nats,
    {'shapes': [(5, 6), (6, 3)], 'kept': 0.5, 'num_values': 4, 'factors': 1.0},
  ),
  (
    magnitude_sketching.naive_risk,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'output_error': ERROR,
      'nonzeros': [3, 4],
      'shapes': [(5, 6), (6, 3)],
      'num_values': 4,
      'delta': 0.1,
      'variant': 'paper',
    },
  ),
  (
    magnitude_sketching.prunable_tail,
    {
      'count': 2,
      'num_entries': 5,
      'strength': 1.0,
      'level': 0.5,
      'variant': 'paper',
    },
  ),
  (
    magnitude_sketching.pruned_tail,
    {'count': 2, 'num_prunable': 5, 'level': 0.5, 'variant': 'paper'},
  ),
  (
    magnitude_sketching.lottery_parameters,
    {'target_width': 3, 'input_dimension': 4, 'num_layers': 2},
  ),
  (
    magnitude_sketching.lottery_risk,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'target_width': 3,
      'input_dimension': 4,
      'num_layers': 2,
      'random_width': 50,
      'num_values': 4,
      'delta': 0.1,
      'spectral': [1.0, 1.0],
      'largest_entries': [0.1, 0.1],
      'fan_in': [3, 4],
      'recovery_exponent': 2.0,
      'constant': 1.0,
    },
  ),
  (
    magnitude_sketching.filter_risk,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'channels': [3, 4, 5],
      'sides': [3, 3, 3],
      'exponent': 0.5,
      'num_values': 4,
      'lipschitz': 1.0,
      'beta_1': 1.0,
      'beta_2': 0.1,
      'constant': 1.0,
      'variant': 'paper',
    },
  ),
  (
    baselines.neyshabur_2015,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'frobenius': [1.0, 2.0],
      'input_norm': 1.0,
      'delta': 0.1,
      'constant': 1.0,
    },
  ),
  (
    baselines.neyshabur_2017,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'spectral': [1.0, 1.0],
      'frobenius': [1.0, 2.0],
      'width': 5,
      'input_norm': 1.0,
      'delta': 0.1,
      'constant': 1.0,
    },
  ),
  (
    baselines.bartlett_2017,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'spectral': [1.0, 1.0],
      'two_one': [1.0, 2.0],
      'width': 5,
      'data_norm': 1.0,
      'delta': 0.1,
      'lipschitz': 1.0,
      'constant': 1.0,
    },
  ),
  (
    baselines.log_norm_products,
    {
      'spectral': [1.0, 1.0],
      'frobenius': [1.0, 2.0],
      'two_one': [1.0, 2.0],
      'widths': [5, 6],
      'gamma': 0.1,
      'num_samples': 10,
    },
  ),
  (
    baselines.arora_2018,
    {
      'margins': MARGINS,
      'gamma': 0.1,
      'cushions': [0.1, 0.1],
      'interlayer': [0.1, 0.1],
      'contraction': 1.0,
      'smoothness': 7.0,
      'output_norm': 1.0,
      'delta': 0.1,
      'constant': 1.0,
    },
  ),
  (
    baselines.curvatures_with_residuals,
    {
      'loss': loss,
      'layers': LAYERS,
      'reference': [w * 0.5 for w in LAYERS],
      'x': X,
      'y': Y,
      'num_steps': 1,
      'batch_size': 2,
    },
  ),
  (
    baselines.layer_curvatures,
    {
      'loss': loss,
      'layers': LAYERS,
      'reference': [w * 0.5 for w in LAYERS],
      'x': X,
      'y': Y,
      'num_steps': 1,
      'batch_size': 2,
    },
  ),
  (
    baselines.ju_2022,
    {
      'training_loss': 0.1,
      'curvatures': [0.1, 0.2],
      'num_samples': 10,
      'loss_bound': 1.0,
      'epsilon': 0.1,
      'remainder': 0.1,
    },
  ),
  (
    codes.encode,
    {'layers': [np.ones(3)], 'settings': (1,), 'mantissa_bits': 3},
  ),
  (
    codes.encode_difference,
    {'layers': [2 * FIRST], 'reference': [FIRST], 'mantissa_bits': 3},
  ),
  (
    codes.decode_difference,
    {'bits': DIFFERENCE.bits, 'reference': [FIRST]},
  ),
  (codes.decode, {'bits': CODE.bits, 'shapes': lambda s: [(3,)]}),
  (codes.to_grid, {'x': np.ones(3), 'mantissa_bits': 3}),
  (
    codes.fit_codebook,
    {'weights': np.ones(3), 'num_values': 2, 'num_iterations': 3},
  ),
  (
    codes.tie,
    {'weights': np.ones(3), 'values': np.ones(2), 'mantissa_bits': 3},
  ),
  (
    certificates.certificate,
    {
      'errors': 1,
      'n': 10,
      'bits': 3.0,
      'delta': 0.1,
      'log_settings': 0.0,
      'form': 'kl',
    },
  ),
  (certificates.invert_binomial, {'errors': 1, 'n': 10, 'log_failure': -3.0}),
  (certificates.invert_kl, {'rate': 0.1, 'divergence_nats': 0.1}),
  (
    mean_field.gronwall_constant,
    {'problem': REGULARITY, 'horizon': 1.0, 'variant': 'paper'},
  ),
  (
    mean_field.euler_bound,
    {
      'problem': REGULARITY,
      'alpha': 1.5,
      'sigma': 1.0,
      'step_size': 0.1,
      'horizon': 1.0,
      'largest_norm': 1.0,
      'mean_norm': 1.0,
      'variant': 'paper',
    },
  ),
  (
    mean_field.gradient_norm_bound,
    {
      'problem': REGULARITY,
      'excess_risk': 0.1,
      'alpha': 1.5,
      'sigma': 1.0,
      'step_size': 0.1,
      'num_steps': 3,
      'num_particles': 3,
      'gamma': 0.1,
    },
  ),
  (
    mean_field.largest_norm_bound,
    {'alpha': 1.5, 'num_particles': 3, 'constant': 1.0, 'variant': 'paper'},
  ),
  (mean_field.norm_tail_constant, {'alpha': 1.5, 'dim': 2, 'kind': 'type1'}),
  (
    mean_field.mean_largest_norm,
    {
      'key': KEY,
      'alpha': 1.5,
      'num_particles': 2,
      'dim': 2,
      'kind': 'type1',
      'num_samples': 10**4,
    },
  ),
  (
    bounds.make_bound,
    {
      'terms': {'a': 0.0},
      'assumptions': [],
      'failure': 0.0,
      'details': {},
      'value': 1.0,
    },
  ),
]

BAD = [
  None,
  'x',
  '',
  b'x',
  'paper ',
  [],
  {},
  (),
  {'a': 1},
  {1, 2},
  range(3),
  [[1.0], [1.0, 2.0]],
  [1.0, 'a'],
  [None],
  object(),
  lambda *a: 1,
  True,
  1j,
  math.nan,
  math.inf,
  -math.inf,
  -1,
  -1.5,
  0,
  0.5,
  3,
  1e308,
  np.array([1 + 2j]),
  np.array([1j, 2.0]),
  np.zeros(0),
  np.zeros((0, 3)),
  np.ones((2, 2)),
  np.ones((2, 2, 2)),
  np.array('s'),
  np.array([None, 1]),
  np.full(2, np.nan),
  np.array([1, 2]),
  jnp.float32(0.5),
  np.datetime64('2020'),
  KEY,
  jax.random.split(jax.random.key(1), 2),
]
BAD_KEYS = [bad for bad in BAD if bad is not KEY]
# Refused under the name that a number has further in.
INSIDE = ('count', 'epsilon', 'radius', 'changes', 'kappa', 'layers')


def test_every_public_function_is_called():
  called = {function for function, _ in GOOD}
  rooms = [baselines, codes, gaussian_compression, heavy_tails]
  for room in (bounds, *rooms, magnitude_sketching):
    for name in room.__all__:
      value = getattr(room, name)
      if callable(value) and not isinstance(value, type):
        assert value in called, name


def _fresh(arguments):
  """A key is used once."""
  key = {'key': jax.random.clone(KEY)} if 'key' in arguments else {}
  return arguments | key


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
  ('function', 'good'), GOOD, ids=[function.__name__ for function, _ in GOOD]
)
def test_bad_calls(function, good):
  function(**_fresh(good))
  unclear = []
  for name in good:
    for bad in BAD if name != 'key' else BAD_KEYS:
      try:
        function(**(_fresh(good) | {name: bad}))
      except ValueError as error:
        if not any(word in str(error) for word in (*good, *INSIDE)):
          unclear.append((name, bad, error))
      except Exception as error:
        unclear.append((name, bad, error))
  assert not unclear
