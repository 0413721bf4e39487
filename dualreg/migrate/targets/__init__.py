"""Targets: where what this registry keeps can go, one file each."""
