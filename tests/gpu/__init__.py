"""Tests that need a GPU: `make test-gpu` runs them, and then bench/gpu.py. Elsewhere each of them skips."""
