"""Say the seed of the run, and count what its comparisons may cost together."""

import pytest

from statistical import checks, seeds

_STASH = pytest.StashKey[int]()


def pytest_report_header() -> str:
  return f'statistical tests: HTJAX_TEST_SEED={seeds.SHIFT}'


def pytest_testnodedown(node) -> None:
  """Add up in the controller the counts of the workers of pytest-xdist."""
  stash = node.config.stash
  found = getattr(node, 'workeroutput', {}).get('comparisons', 0)
  stash[_STASH] = stash.get(_STASH, 0) + found


def pytest_sessionfinish(session) -> None:
  config = session.config
  if hasattr(config, 'workeroutput'):
    config.workeroutput['comparisons'] = checks.comparisons()
    return
  count = config.stash.get(_STASH, 0) + checks.comparisons()
  config.stash[_STASH] = count
  if count > checks.MAX_COMPARISONS:
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config) -> None:
  count = config.stash.get(_STASH, 0)
  if not count:
    return
  terminalreporter.write_line(
    f'{count} statistical comparisons of at most {checks.MAX_COMPARISONS}: '
    f'together they fail a right library with probability below '
    f'{count * checks.FAILURE_RATE:.1e}',
    red=count > checks.MAX_COMPARISONS,
  )
