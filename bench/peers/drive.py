"""Calls a handler as AWS Lambda would, in a process of its own: `drive.py FOLDER MODULE`, events on stdin.

Each line of stdin is a JSON list of events. For each line one line goes to stdout: the milliseconds that each
event took, the last answer, and the process's memory now and at its peak. What the handler itself prints
goes nowhere.
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path

folder, module = sys.argv[1:]
told = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
sys.path.insert(0, folder)
handler = import_module(module).handler


def memory_mb(name: str) -> float:
    """What Linux says of this process; NaN where there is no Linux."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


answer = None
for line in sys.stdin:
    took_ms = []
    for event in json.loads(line):
        began_s = time.perf_counter()
        answer = handler(event, None)
        took_ms.append((time.perf_counter() - began_s) * 1000)
    report = {
        "took_ms": took_ms,
        "answer": answer,
        "now_mb": memory_mb("VmRSS"),
        "peak_mb": memory_mb("VmHWM"),
    }
    print(json.dumps(report), file=told, flush=True)
os._exit(0)  # an end that costs nothing: AWS Lambda freezes and kills
