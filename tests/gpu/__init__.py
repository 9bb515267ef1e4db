"""Tests that need a GPU: `make test-gpu` runs them between bench/gpu.py and bench/fed.py. Elsewhere all skip."""
