"""The zoo `timm:`, the models of timm."""
