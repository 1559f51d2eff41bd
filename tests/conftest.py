"""How the tests run everywhere: shapes are checked (pyproject's --jaxtyping-packages), draws by lot are repeatable."""

from hypothesis import settings

from tests import checker  # noqa: F401  by now, so that the shape checker's hook finds it

# No deadline: numba compiles in the middle of somebody's first example.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("house")
