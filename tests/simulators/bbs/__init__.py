"""A simulated BBS: the real protocol on loopback, in memory, held to recordings of two real ones."""

from tests.simulators.bbs.faults import ANY_PATH, Fault, Faults
from tests.simulators.bbs.server import Bbs, serve_bbs
from tests.simulators.bbs.state import Rep, RepError, State, Version
from tests.simulators.bbs.streams import Stream

__all__ = ["ANY_PATH", "Bbs", "Fault", "Faults", "Rep", "RepError", "State", "Stream", "Version", "serve_bbs"]
