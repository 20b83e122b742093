"""Pictures: their integers again, and features that know no data."""

import numpy as np
import pytest

from htjax import data


def test_edges_tell_directions():
  # A ramp that grows to the right: the first derivative points right.
  ramp = np.tile(np.linspace(0, 1, 16, dtype=np.float32), (16, 1))
  inner = data.edge_features(ramp[None], 4, 2)[0, 3:5, 3:5]
  right, down, left, up, blur = np.moveaxis(np.asarray(inner), -1, 0)
  assert np.all(right > 0.1)
  np.testing.assert_allclose([down, left, up], 0, atol=1e-6)
  np.testing.assert_allclose(
    blur.mean(0), 4 * ramp[0, 6:10].reshape(2, 2).mean(1), rtol=1e-5
  )
  turned = data.edge_features(ramp.T[None], 4, 2)[0, 3:5, 3:5]
  np.testing.assert_allclose(turned[..., 1], right.T, rtol=1e-5)


def test_cells_that_do_not_fit_are_left_out():
  pictures = np.random.default_rng(0).random((3, 9, 9), np.float32)
  found = data.edge_features(pictures, 2, 4)
  assert found.shape == (3, 2, 2, 3)
  assert np.all(found >= 0)
  for bad, options, message in (
    (pictures[0], {}, r'pixels must be \[n, side, side\]'),
    (pictures[:, :, :8], {}, r'pixels must be \[n, side, side\]'),
    (pictures, {'cell': 10}, r'cell must lie in \[1, 9\], got 10'),
    (pictures, {'orientations': 0}, 'orientations must be an integer >= 1'),
  ):
    with pytest.raises(ValueError, match=message):
      data.edge_features(bad, **options)


def test_pixels_undo_any_standardisation():
  draws = np.random.default_rng(9)
  pixels = draws.integers(0, 256, (50, 8, 8, 3)).astype(np.uint8)
  pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
  mean, spread = np.float32([0.49, 0.48, 0.44]), np.float32([0.2, 0.3, 0.1])
  inputs = (np.float32(pixels) / 255 - mean) / spread
  split = data.Split(inputs, np.zeros(50, np.int32))
  found = data.pixels(split)
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, pixels)
  for bad, levels, message in (
    (split, 254, 'split must have pictures of 254 levels'),
    (split, 256, 'num_levels be at most 255'),
    (split._replace(inputs=inputs[0]), 255, 'height, width, channels'),
    (split._replace(inputs=inputs * np.inf), 255, 'split must be finite'),
  ):
    with pytest.raises(ValueError, match=message):
      data.pixels(bad, levels)
