"""The comparison of any models, which are read into graphs and aligned: no table is given."""
