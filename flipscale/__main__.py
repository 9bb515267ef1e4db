"""`python -m flipscale` is the command line."""

import sys

if __name__ == "__main__":
    try:
        from flipscale.cli import main

        code = main()
    except KeyboardInterrupt:  # while modules were still being loaded
        print("interrupted", file=sys.stderr)
        code = 130
    raise SystemExit(code)
