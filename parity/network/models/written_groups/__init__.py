"""ResNeXt as it is often published for Keras: its grouped convolutions are loops, written out."""
