"""The zoos of this runtime, one folder each; `processes.zoos` finds them."""
