"""The proof of causes: pure functions of arrays, which import only `numerics` and `network`."""
