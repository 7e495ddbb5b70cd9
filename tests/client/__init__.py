"""Tests of the Python client; a package so that mypy and pytest agree on the names of its helpers."""
