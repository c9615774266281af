"""What a network is, as data: kinds of layers, the layer table, architectures, weights, inputs."""
