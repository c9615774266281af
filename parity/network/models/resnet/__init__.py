"""ResNet, ResNeXt and Wide ResNet: residual networks with a 7×7 stem and four stages."""
