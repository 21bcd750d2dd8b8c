"""`make emulator`: the Security Center emulator alone, for any official Alibaba Cloud SDK."""

import threading

from local.emulator import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator


def main(port: int) -> None:
    """Serve until interrupted."""
    with Emulator(port=port) as emulator:
        print(f"Security Center emulator at {emulator.url}")
        print(f"access key id {ACCESS_KEY_ID}, secret {ACCESS_KEY_SECRET}; Ctrl-C ends it", flush=True)
        threading.Event().wait()
