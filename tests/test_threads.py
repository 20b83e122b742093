"""Linear algebra on one thread: tests run beside each other on all cores."""

import os

import numpy as np
import threadpoolctl
from scipy import linalg


def test_one_thread_multiplies():
  assert np.allclose(linalg.inv(np.eye(2)), np.eye(2))
  libraries = threadpoolctl.threadpool_info()
  assert libraries
  for library in libraries:
    variable = {'blas': 'OPENBLAS_NUM_THREADS', 'openmp': 'OMP_NUM_THREADS'}
    wanted = int(os.environ[variable[library['user_api']]])
    assert library['num_threads'] == wanted, library['filepath']
