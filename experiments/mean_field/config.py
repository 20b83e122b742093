"""Presets of the mean-field studies.

Over each preset stand its time on 2 cores and numbers that come out.
"""

from typing import Any

from experiments.common.presets import getter

STUDIES = (
  *('chaos', 'euler', 'euler_width', 'linear', 'tail', 'second_moment'),
  *('compressibility', 'gaussian_limit', 'step_condition', 'gradient'),
  *('infinite_mean', 'largest_norm', 'drift', 'largest_path', 'one_step'),
  'controls',
)

BASE: dict[str, Any] = {
  'studies': STUDIES,
  'seed': 0,
  # Unit tanh(<theta, x>), loss log cosh(f - y), inputs N(0, I / p), targets
  # a sine of the first coordinate; particles start from N(0, I).
  'dim': 5,
  'num_data': 64,
  'sigma': 0.5,
  'alphas': (1.2, 1.5, 1.8, 2.0),
  'kinds': ('type1', 'type2', 'type3'),
  'horizon': 1.0,
  'step_size': 1 / 32,
  'at_once': 0,  # replicas in a batch; 0 is 1 on a CPU and all elsewhere
  # Propagation of chaos.
  'widths': tuple(2**i for i in range(4, 13)),
  'reference': 2**18,
  'replicas': 64,
  # The error of Euler, at one width, and at one step over widths.
  'step_sizes': tuple(2.0**-i for i in range(1, 8)),
  'fine_step_size': 2.0**-11,
  'euler_particles': 64,
  'euler_widths': (16, 64, 256, 1024),
  'euler_replicas': 64,
  # The law under a linear drift.
  'linear_particles': 10**6,
  # Tails of the particles, at 0.1 and 1 of the horizon.
  'tail_alphas': (1.2, 1.5, 1.8),
  'tail_particles': 10**7,
  'tail_steps': 20,
  'tail_top': 2000,
  # Second moments and compression errors over systems of these sizes; with
  # that much noise the power law sets in below the smallest.
  'size_sigma': 10.0,
  'sizes': (10**3, 10**4, 10**5, 10**6),
  'size_replicas': 32,
  'size_steps': 10,
  'kappas': (0.1, 0.5),
  'limit_particles': 10**6,
  'step_condition_sizes': (16, 64, 256),
  'step_condition_time': 0.1,
  'step_condition_replicas': 64,
  # Gradient norms against sigma and the step size.
  'gradient_sigmas': (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
  'gradient_steps': (0.02, 0.05, 0.1, 0.2),
  'gradient_particles': 256,
  'gradient_iterations': 100,
  'gradient_replicas': 32,
  'gradient_alpha': 1.8,
  'gradient_gamma': 0.7,
  # Means of squares, and largest norms.
  'mean_alphas': (1.2, 1.5, 1.8),
  'mean_sizes': (10, 100, 1000, 10**4, 10**5, 10**6),
  'mean_replicas': 400,
  'norm_widths': (1, 16, 256, 4096, 65536),
  'norm_samples': 10**6,
  # Pieces of the proofs: the drift, and the largest norms along paths.
  'drift_particles': 64,
  'path_particles': 10**4,
}

PRESETS: dict[str, dict[str, Any]] = {
  # Does it run: 40 s on 2 cores. One tail index and kind, 8 replicas: slopes of
  # -0.60+-0.17 (chaos) and 1.04+-0.13 (Euler); the four controls fail.
  'smoke': {
    'alphas': (1.5,),
    'kinds': ('type2',),
    'tail_alphas': (1.5,),
    'mean_alphas': (1.5,),
    'num_data': 8,
    'step_size': 1 / 8,
    'widths': (16, 64, 256),
    'reference': 4096,
    'replicas': 8,
    'step_sizes': (1 / 4, 1 / 8, 1 / 16),
    'fine_step_size': 1 / 128,
    'euler_particles': 16,
    'euler_widths': (16, 64),
    'euler_replicas': 8,
    'linear_particles': 10**4,
    'tail_particles': 10**5,
    'tail_top': 300,
    'sizes': (100, 1000, 10_000),
    'size_replicas': 8,
    'limit_particles': 10**5,
    'step_condition_sizes': (8, 16),
    'step_condition_time': 0.02,
    'step_condition_replicas': 4,
    'gradient_sigmas': (0.1, 1.0, 10.0),
    'gradient_steps': (0.05, 0.2),
    'gradient_particles': 16,
    'gradient_iterations': 20,
    'gradient_replicas': 4,
    'mean_sizes': (10, 100, 1000),
    'mean_replicas': 40,
    'norm_widths': (1, 16, 256),
    'norm_samples': 20_000,
    'drift_particles': 16,
    'path_particles': 1000,
  },
  # Everything, n to 10^6, tails of 10^7 particles: 25 min on 2 cores. Slopes of
  # -0.480 to -0.510 (chaos), 1.00 to 1.03 (Euler); the README has all numbers.
  'cpu': {},
  # n to 10^6, tails of 10^8 particles, 256 replicas: for a GPU, not run.
  'paper': {
    'widths': tuple(2**i for i in range(4, 21, 2)),
    'reference': 2**23,
    'replicas': 256,
    'euler_particles': 1024,
    'euler_widths': (16, 256, 4096, 65536),
    'euler_replicas': 256,
    'linear_particles': 10**7,
    'tail_particles': 10**8,
    'tail_top': 20_000,
    'size_replicas': 256,
    'size_steps': 32,
    'limit_particles': 10**7,
    'step_condition_sizes': (16, 64, 256, 1024),
    'step_condition_replicas': 256,
    'gradient_replicas': 256,
    'mean_replicas': 4000,
    'norm_samples': 10**7,
  },
}

get_config = getter(BASE, PRESETS, default='cpu')
