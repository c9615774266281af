"""The devices of a comparison of any models, planned from the request before a child is started."""

from __future__ import annotations

from parity.comparison.graphs.request import GraphRequest
from parity.comparison.placement import DeviceRequest, Placement, place_subjects
from parity.processes import gpus, registry


def plan_devices(request: GraphRequest, *, load_driver: gpus.Load | None = None) -> Placement:
    """Place the models and the graphs that are exported from them; see `place_subjects`.

    Raises `DeviceMissing` and `UsageError` as that does, and `UsageError` for a reference that
    names nothing.
    """
    return place_subjects(
        list_device_requests(request),
        precision=request.precision,
        python=request.python,
        load_driver=load_driver,
    )


def list_device_requests(request: GraphRequest) -> list[DeviceRequest]:
    """Return the devices that are wanted, by what is known before the models are loaded.

    The runtime of a script is that of its imports, and its child is called as the runtime.
    """
    models = request.name_models()
    runtimes = [runtime for _, runtime, _ in models]
    known = {name: runtime for name, runtime, _ in models}
    graph_runtime = registry.graph_runtimes()[0]
    if request.export:
        for name, runtime, _ in models:
            if runtime in registry.model_runtimes() and runtimes.count(runtime) == 1:
                known.setdefault(f"onnx-{name}", graph_runtime)
    if not request.subjects:
        return [DeviceRequest(n, runtime, runtime, request.device) for n, runtime in known.items()]
    found = []
    for text in request.subjects:
        name, _, device = text.partition("@")
        # A name that no model has is an error once the models are loaded.
        runtime = known.get(name, graph_runtime)
        found.append(DeviceRequest(name, runtime, runtime, device or request.device))
    return found
