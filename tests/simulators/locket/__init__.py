"""A simulated Locket: the real protocol on loopback, in memory, several servers over one state."""

from tests.simulators.locket.faults import ANY_METHOD, Fault, Faults
from tests.simulators.locket.server import Call, Locket, serve_locket
from tests.simulators.locket.state import SCAN_INTERVAL, Row, State

__all__ = [
    "ANY_METHOD",
    "SCAN_INTERVAL",
    "Call",
    "Fault",
    "Faults",
    "Locket",
    "Row",
    "State",
    "serve_locket",
]
