"""The one place that waits."""

import time


def pause(seconds: float) -> None:
    time.sleep(seconds)
