"""A runtime without a framework."""

from __future__ import annotations

import os
import sys
import tempfile
import time

from parity.errors import WeightError


class Runtime:
    held: object = None

    def load(self, value):
        self.held = [*(self.held or []), value]

    def loaded(self):
        return {"held": self.held, "pid": os.getpid()}

    def echo(self, value):
        return {"value": value}

    def refuse(self, message):
        raise WeightError(message)

    def chatter(self):
        for number in range(1000):
            print("I am chatty", number)
        os.system("echo and so are my children")
        return {"said": 1000}

    def crash(self):
        return 1 / 0

    def die(self, code):
        print("farewell", file=sys.stderr, flush=True)
        os._exit(code)

    def litter(self):
        path = os.path.join(tempfile.gettempdir(), "left-behind")
        with open(path, "w") as file:
            file.write("telemetry")
        return {"path": path}

    def fork(self, seconds):
        """Leave a process behind that has this one's open files."""
        if os.fork() == 0:
            time.sleep(seconds)
            os._exit(0)

    def sleep(self, seconds):
        time.sleep(seconds)

    def export(self):
        import no_such_exporter  # noqa: F401

    def _secret(self):
        return {}
