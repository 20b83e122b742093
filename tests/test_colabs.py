"""Each Colab is in sync with its source, and runs from end to end.

A notebook is generated from its percent script by
`jupytext --to ipynb --update colabs/NAME.py`, which keeps the cells' ids.
"""

import itertools
import os
from pathlib import Path

import children
import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / 'colabs').glob('*.py'))
NOTEBOOKS = sorted((ROOT / 'colabs').glob('*.ipynb'))

each_colab = pytest.mark.parametrize('source', SOURCES, ids=lambda p: p.stem)
# The kernel and its client are not ours to keep free of warnings.
runs_a_kernel = pytest.mark.filterwarnings('default')

# What conftest.py does here for the sake of time.
QUICK = """
import gc
from importlib import metadata
import one_context
one_context.install(metadata.version('jaxlib'))
gc.set_threshold(100_000, 20, 20)
"""


@pytest.fixture
def smoke(monkeypatch):
  """A quick run without a network, on the devices of an ordinary machine."""
  monkeypatch.setenv('HTJAX_SMOKE', '1')
  monkeypatch.setenv('PIP_NO_INDEX', '1')
  for name, value in children.environment().items():
    monkeypatch.setenv(name, value)
  paths = [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, paths)))


def execute(notebook, folder):
  client = NotebookClient(
    notebook,
    timeout=300,
    kernel_name='python3',
    resources={'metadata': {'path': str(folder)}},
  )
  return client.execute()


def test_every_colab_is_a_pair():
  assert SOURCES
  assert [p.stem for p in SOURCES] == [p.stem for p in NOTEBOOKS]


@each_colab
def test_notebook_is_what_its_source_generates(source):
  expected = jupytext.read(source)
  notebook = nbformat.read(source.with_suffix('.ipynb'), as_version=4)
  nbformat.validate(notebook)
  ours, generated = (
    [(c.cell_type, c.source, c.metadata) for c in n.cells]
    for n in (notebook, expected)
  )
  assert ours == generated
  assert notebook.metadata.kernelspec == expected.metadata.kernelspec
  assert len(notebook.cells) < 15


@each_colab
def test_notebook_holds_no_traces_of_a_run(source):
  notebook = nbformat.read(source.with_suffix('.ipynb'), as_version=4)
  for cell in notebook.cells:
    assert not cell.get('outputs')
    assert cell.get('execution_count') is None


@runs_a_kernel
def test_notebooks_run_in_smoke_mode(smoke, tmp_path):
  """One kernel for all, which forgets one before it begins the next."""
  notebooks = [nbformat.read(path, as_version=4) for path in NOTEBOOKS]
  reset = nbformat.v4.new_code_cell('%reset -f')
  quick = nbformat.v4.new_code_cell(QUICK)
  cells = [cell for n in notebooks for cell in (*n.cells, reset)]
  cells = [quick, reset, *cells]
  # The notebooks name their cells apart, each for itself.
  for i, cell in enumerate(cells):
    cells[i] = nbformat.from_dict({**cell, 'id': f'cell-{i}'})
  whole = nbformat.v4.new_notebook(cells=cells)
  ran = iter(execute(whole, tmp_path).cells[2:])
  for notebook in notebooks:
    done = list(itertools.islice(ran, len(notebook.cells)))
    next(ran)
    install, *rest = [c for c in done if c.cell_type == 'code']
    assert 'pip install' in install.source
    # htjax is there, so nothing is installed.
    assert not install.outputs
    kinds = {
      kind for c in rest for o in c.outputs for kind in o.get('data', ())
    }
    assert 'image/png' in kinds


@runs_a_kernel
def test_an_error_in_a_cell_is_fatal(smoke, tmp_path):
  cell = nbformat.v4.new_code_cell('import no_such_room')
  notebook = nbformat.v4.new_notebook(cells=[cell])
  with pytest.raises(CellExecutionError, match='no_such_room'):
    execute(notebook, tmp_path)
