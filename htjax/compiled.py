"""Compiled programs are kept on disk, for the next process that needs them.

JAX compiles for each new shape, in each new process; kept on disk, the second
process starts at once. This file imports nothing but the standard library: XLA
reads how much it may say when jax is first imported.
"""

import os
import pathlib
import sys
from collections.abc import MutableMapping

# All tests and demos of one version of JAX take about a tenth of that.
MAX_BYTES = 2 * 2**30

_FOLDER = 'JAX_COMPILATION_CACHE_DIR'
# Everything is kept: most programs here are small, and many. XLA says an error
# for every program it loads, about settings of the compiler that it takes for
# abilities of the machine; only level 3 leaves that out.
_SETTINGS = {
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  'TF_CPP_MIN_LOG_LEVEL': '3',
}


def folder(environment: MutableMapping[str, str] | None = None) -> pathlib.Path:
  """`htjax/jax` in the user's cache folder.

  Args:
    environment: variables to look at, XDG_CACHE_HOME among them; None is that
      of this process.

  Returns:
    The path, which need not exist.
  """
  environment = os.environ if environment is None else environment
  home = environment.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(home).expanduser() / 'htjax' / 'jax'


def keep(environment: MutableMapping[str, str] | None = None) -> None:
  """Make JAX keep compiled programs, here and in the processes started here.

  To be called before jax is imported; later, XLA is as talkative as it was.
  Variables that are set already stay as they are: JAX_COMPILATION_CACHE_DIR
  for another folder, which is not trimmed, and
  JAX_ENABLE_COMPILATION_CACHE=false for none. A process that meets a file which
  another is just writing compiles for itself, with a warning from JAX.

  Args:
    environment: variables to set; None is those of this process.

  Examples:
    >>> import tempfile
    >>> from htjax import compiled
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   variables = {'XDG_CACHE_HOME': folder}
    ...   compiled.keep(variables)
    >>> variables['JAX_COMPILATION_CACHE_DIR'] == f'{folder}/htjax/jax'
    True
  """
  environment = os.environ if environment is None else environment
  if _FOLDER not in environment:
    path = folder(environment)
    path.mkdir(parents=True, exist_ok=True)
    trim(path)
    environment[_FOLDER] = str(path)
  for name, value in _SETTINGS.items():
    environment.setdefault(name, value)
  if environment is os.environ and 'jax' in sys.modules:
    update = sys.modules['jax'].config.update
    update('jax_compilation_cache_dir', environment[_FOLDER])
    update('jax_persistent_cache_min_compile_time_secs', 0.0)
    update('jax_persistent_cache_min_entry_size_bytes', -1)


def trim(path: pathlib.Path, max_bytes: int = MAX_BYTES) -> None:
  """Delete the files that were longest unused until the rest fits.

  JAX has a limit of its own, jax_compilation_cache_max_size, but reads the
  whole folder at every write, which for thousands of programs takes longer
  than to compile them.

  Args:
    path: a folder.
    max_bytes: how much may stay.
  """
  files = []
  for entry in os.scandir(path):
    # Another process may be trimming as well.
    try:
      found = entry.stat()
    except FileNotFoundError:
      continue
    if entry.is_file():
      files.append((max(found.st_atime, found.st_mtime), found.st_size, entry))
  total = sum(size for _, size, _ in files)
  for _, size, entry in sorted(files, key=lambda f: f[0]):
    if total <= max_bytes:
      return
    pathlib.Path(entry.path).unlink(missing_ok=True)
    total -= size
