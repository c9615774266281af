"""The zoo `torchvision:`, the models of torchvision."""
