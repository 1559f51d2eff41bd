"""How the tests run everywhere: shapes are checked (pyproject's --jaxtyping-packages), draws by lot are repeatable."""

import os
import signal

from hypothesis import HealthCheck, settings

from benchmarks.peers.scratch import scratch_folder
from tests import checker  # by now, so that the shape checker's hook finds it

os.environ["XDG_CACHE_HOME"] = str(scratch_folder("cache-"))  # not the user's: see circuits.soundness
# The worlds are small: more threads would only wait for each other. Before anything loads torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is fetched

# A shell's background job is deaf to Ctrl-C; some tests raise it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline, and no complaint that drawing is slow: numba compiles in the middle of somebody's first example.
settings.register_profile(
    "house", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")


def pytest_runtest_setup():
    checker.calls.clear()
