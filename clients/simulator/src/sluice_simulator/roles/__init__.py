"""The agents of a run, a class each (swf-clients.md 1 and 8.1)."""

from sluice_simulator.roles.data import Data
from sluice_simulator.roles.fast import Fast
from sluice_simulator.roles.fastmon import Fastmon
from sluice_simulator.roles.runner import Runner
from sluice_simulator.roles.workers import Workers

__all__ = ["Data", "Fast", "Fastmon", "Runner", "Workers"]
