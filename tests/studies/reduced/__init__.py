"""How small the parts are that `parity reduce` cuts out of models with one fault."""
