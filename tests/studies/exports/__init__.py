"""Study: are exported files right? Every kind of model, compared outside of the exporters."""
