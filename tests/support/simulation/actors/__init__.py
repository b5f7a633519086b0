"""Who else works on the simulated cluster, beside the operator."""
