"""The flags that every study has, and its start on one host or several."""

import gc
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file('config', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the results.')
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'host:port of the first process, to join several hosts.'
)
_NUM_HOSTS = flags.DEFINE_integer('num_hosts', None, 'How many processes join.')
_HOST = flags.DEFINE_integer('host', None, 'This process, from 0.')


def main(run: Callable[..., Any]) -> None:
  """Run a study, `run(config, workdir)`, with what the flags say.

  With `--coordinator` the process joins the other hosts first.
  """

  def start(argv: list[str]) -> None:
    if len(argv) > 1:
      raise app.UsageError(f'unexpected arguments: {" ".join(argv[1:])}')
    # JAX tells at level INFO of every kind of device that is not there.
    logging.set_verbosity(logging.WARNING)
    if _COORDINATOR.value is not None:
      jax.distributed.initialize(
        _COORDINATOR.value, _NUM_HOSTS.value, _HOST.value
      )
    # What has been imported stays: collections need not go through it again.
    gc.freeze()
    run(_CONFIG.value, str(_WORKDIR.value))

  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(start)


def mesh() -> jax.sharding.Mesh | None:
  """All devices of all hosts in one axis, or None if there is only one."""
  if jax.device_count() == 1:
    return None
  auto = (jax.sharding.AxisType.Auto,)
  return jax.make_mesh((jax.device_count(),), ('devices',), axis_types=auto)
