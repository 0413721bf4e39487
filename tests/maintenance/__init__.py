"""Tests of what keeps a registry whole: rebuilding its catalog."""
