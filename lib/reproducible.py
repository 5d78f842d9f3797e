"""What makes a computation give the same bytes again: threads, instruction sets and seeds.

The order in which a sum is taken depends on the number of threads and on the width of a processor's registers, so both
are part of a result.  Processes that compute start with ``ENVIRONMENT`` (it must be set before numpy and torch are
loaded) and call ``fix`` once; then the same seed gives the same bytes on one core or many.
``python -m lib.reproducible COMMAND …`` starts a command that way.
"""

import os
import sys

THREADS = 2

ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",  # matrix products and recurrent networks on a GPU
    "MKL_CBWR": "AVX2,STRICT",  # torch's matrix products: conditional numerical reproducibility
    "MKL_DYNAMIC": "FALSE",  # a busy or small machine may not change the number of threads
    "MKL_NUM_THREADS": str(THREADS),
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # numpy's own loops: none wider than AVX2
    "OMP_NUM_THREADS": str(THREADS),
    "OMP_WAIT_POLICY": "PASSIVE",  # a thread that waits leaves its core to others
    "OPENBLAS_CORETYPE": "Haswell",  # numpy's and scipy's matrix products
    "OPENBLAS_NUM_THREADS": str(THREADS),
    "PYTHONHASHSEED": "0",
}


def environment() -> dict[str, str]:
    """This process's environment with everything fixed that a result depends on, for a process to be started."""
    return {**os.environ, **ENVIRONMENT}


def fix(seed: int) -> None:
    """Fix torch's seed, threads and algorithms in this process."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    # without it, which is read at the first product on a GPU, such products are refused
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ENVIRONMENT["CUBLAS_WORKSPACE_CONFIG"])
    torch.backends.cuda.enable_mem_efficient_sdp(False)  # on a GPU, these add in any order
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a help to find faults, at a tenth of the time
    threadpool_limits(THREADS)


def launch(command: list[str]) -> None:
    """Become this command, in an environment where what it computes can be computed again."""
    os.execvpe(command[0], command, environment())


if __name__ == "__main__":
    launch(sys.argv[1:])
