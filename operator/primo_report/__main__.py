"""Runs the sidecar: `python -m primo_report`."""

import sys

from primo_report.sidecar import main

if __name__ == "__main__":
    sys.exit(main())
