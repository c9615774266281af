"""A network as data: kinds of layers, layer table, architectures, weights, inputs."""
