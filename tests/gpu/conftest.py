"""What only a machine with an NVIDIA GPU can show; elsewhere these tests are skipped."""

import pytest
import torch

from primo_local.node.devices import real_gpus


@pytest.fixture(autouse=True)
def _gpu() -> None:
    if not real_gpus():
        pytest.skip("this machine has no NVIDIA GPU")
    if not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} finds no GPU: it needs a build with CUDA")
