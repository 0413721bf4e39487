"""``python -m dualreg`` is the ``dualreg`` command."""

from dualreg.cli import main

if __name__ == "__main__":
    main()
