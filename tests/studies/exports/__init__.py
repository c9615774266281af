"""How often the exporters are right, on models of many kinds."""
