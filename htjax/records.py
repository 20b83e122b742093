"""An older address of `htjax.io.records`, `htjax.io.files` and `.tables`."""

from htjax.io.files import atomic_write, replacing
from htjax.io.records import (
  Run,
  open_run,
  read_config,
  read_metrics,
  read_results,
)
from htjax.io.tables import table

__all__ = [
  'Run',
  'atomic_write',
  'open_run',
  'read_config',
  'read_metrics',
  'read_results',
  'replacing',
  'table',
]
