"""The builders of data sets are scripts in studies/data, which import each other by their bare names."""

import sys

from tests.data.scripts import SCRIPTS

sys.path.insert(0, str(SCRIPTS))
