"""The proof of causes: pure functions of arrays, which import `numerics` and `network` alone."""
