"""`python -m flipscale` is the command line."""

from flipscale.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
