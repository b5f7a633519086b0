"""Models and acquisition functions; the only place for torch and botorch.

What enters and leaves is numpy. Nothing here draws from torch's global generator, and each call
runs on one thread, so that its result depends on its arguments alone.
"""
