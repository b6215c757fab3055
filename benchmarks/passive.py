"""Imported before torch: threads that wait sleep, as in the command line."""

import os

from respodiff.trainer.support.threads import passive_waiting

os.environ |= passive_waiting()
