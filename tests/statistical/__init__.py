"""Tests whose outcome depends on draws, with one rate of false alarms.

`checks` holds the comparisons and the rate that they share, `seeds` the keys,
which HTJAX_TEST_SEED shifts all together: a right library passes with any.
"""
