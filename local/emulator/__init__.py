"""An embedded Security Center: real HTTP on 127.0.0.1, real signatures, faults on demand.

Never deployed. Any official Alibaba Cloud SDK can talk to it with the credentials below.
"""

from .behaviour import Behaviour, EndState
from .calls import Call
from .faults import (
    CanCreateFalse,
    CapReached,
    Fault,
    LateTask,
    NoTaskId,
    Redirect,
    Refuse,
    ResetAfter,
    ResetBefore,
    Silence,
    Slow,
    Throttle,
    Unreadable,
)
from .hosts import SAMPLE, Host, host, made_up_hosts, read_hosts
from .server import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from .task import Task

__all__ = [
    "ACCESS_KEY_ID",
    "ACCESS_KEY_SECRET",
    "SAMPLE",
    "Behaviour",
    "Call",
    "CanCreateFalse",
    "CapReached",
    "Emulator",
    "EndState",
    "Fault",
    "Host",
    "LateTask",
    "NoTaskId",
    "Redirect",
    "Refuse",
    "ResetAfter",
    "ResetBefore",
    "Silence",
    "Slow",
    "Task",
    "Throttle",
    "Unreadable",
    "host",
    "made_up_hosts",
    "read_hosts",
]
