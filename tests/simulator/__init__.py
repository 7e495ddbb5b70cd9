"""Tests of the stand-in for Connect."""
