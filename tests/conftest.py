"""Strict settings for every test.

Warnings are errors, a key may not be used twice, legacy keys and silent rank
promotion are refused, the shapes in htjax's signatures are checked, and eight
virtual CPU devices exist for the tests of sharding. Programs are compiled
quickly rather than well, unless HTJAX_TEST_COMPILER is `full`, and kept from
run to run. Statistical tests are in `statistical`, with a rate of false alarms
that they share.
"""

import gc
import os
from importlib import metadata

# What is imported stays: to look for garbage among it meanwhile took a fifth of
# the time.
gc.disable()

from htjax import compiled

# What the programs of the tests cost is to compile them, not to run them.
QUICK = ['--xla_backend_optimization_level=0']
JAXLIB = metadata.version('jaxlib')
# A flag that XLA does not know stops the process, so only where it is known.
if JAXLIB.startswith('0.10.'):
  QUICK += [
    '--xla_cpu_use_fusion_emitters=false',
    # Parts of a program that are compiled side by side: a fifth of the time,
    # where programs are small and other tests run beside.
    '--xla_cpu_parallel_codegen_split_count=1',
  ]


def _xla_flags() -> str:
  flags = os.environ.get('XLA_FLAGS', '').split()
  flags.append('--xla_force_host_platform_device_count=8')
  if os.environ.get('HTJAX_TEST_COMPILER', 'quick') == 'quick':
    flags += QUICK
  return ' '.join(flags)


compiled.keep()
os.environ['XLA_FLAGS'] = _xla_flags()
# Before numpy is imported: threads that share their cores with other tests wait
# for each other in loops, fifty times as long as one thread works.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Where in which file an operation came from is told XLA, and nobody asks it: a
# tenth of what it takes to lower a program, here and in processes started here.
os.environ['JAX_TRACEBACK_IN_LOCATIONS_LIMIT'] = '0'

import chex
import jax
import one_context
import pytest
import shape_checks

# Before anything imports a room with shapes.
shape_checks.install()

one_context.install(JAXLIB)
jax.config.update('jax_legacy_prng_key', 'error')
jax.config.update('jax_debug_key_reuse', True)
jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_collection_finish():
  """Look for garbage seldom, and not among what was imported.

  Each test makes many short-lived objects that hold no cycles; to look through
  them all took a tenth of the time.
  """
  gc.freeze()
  gc.set_threshold(100_000, 20, 20)
  gc.enable()


@pytest.fixture(autouse=True)
def traces_counted_afresh():
  """`chex.assert_max_traces` tells functions apart by source and call stack.

  Two tests of one name in two files would otherwise share a count.
  """
  chex.clear_trace_counter()
