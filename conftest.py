"""Settings for the tests, and for the kernels of nbval, which inherit this environment."""

import os

os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars are for people
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin slow their neighbours down
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel, not the user's
if "PYTEST_XDIST_WORKER" in os.environ:  # two workers do not fight over two cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
