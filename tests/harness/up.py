"""`siftmesh up` as its users run it: one command, default options, only ports and folders
of the test's own.

    with Up(tmp_path) as up:
        up.wait_ready()
        up.pids["gateway"], up.port(), up.status()

What it prints, and what its services log at warning or above, is in up.text().
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.harness.mesh import BIN, SANITIZER, SERVICES, SLOWNESS, until


class Up:
    def __init__(self, folder, *arguments, prefix=(), environment=None, **popen):
        self.folder = Path(folder)
        # Paths of unix sockets are short: not below pytest's long folders.
        self.short = Path(tempfile.mkdtemp(prefix="smt-"))
        self.runtime = self.short / "siftmesh"
        self.log = self.folder / "up.log"
        self.environment = {**os.environ, "HOME": str(self.folder),
                            "XDG_RUNTIME_DIR": str(self.short), **(environment or {})}
        self.environment.pop("XDG_DATA_HOME", None)
        # Ends with the tests, however those end.
        self.arguments = ["setpriv", "--pdeathsig", "TERM", *prefix, BIN / "siftmesh", "up", "--listen",
                          "127.0.0.1:0", "--monitor-listen", "127.0.0.1:0",
                          *map(str, arguments)]
        self.popen_options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **popen}
        self.popen = None

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is not None:
            print(self.text())
        self.close()

    def start(self):
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                self.arguments, env=self.environment,
                **{"stdout": log, "stderr": log, **self.popen_options})
        return self

    def close(self):
        """Ends it, in order where it still lives, and what it leaves."""
        if self.popen and self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(60 * SLOWNESS)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        shutil.rmtree(self.short, ignore_errors=True)
        assert not SANITIZER.search(self.text()), self.text()

    def wait_ready(self, times=1, seconds=60):
        until(lambda: self.text().count("mesh ready") >= times or not self.alive(),
              "the mesh is ready", seconds)
        assert self.alive(), self.text()
        return self

    def alive(self):
        return self.popen.poll() is None

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pids(self):
        """Service -> the pid that was ready last."""
        found = re.findall(r"^(\w+) +ready +pid (\d+)", self.text(), re.M)
        return {name: int(pid) for name, pid in found if name in SERVICES}

    def port(self, name="gateway"):
        return int((self.runtime / f"{name}.port").read_text())

    def command(self, *words, **more):
        return subprocess.run([BIN / "siftmesh", *map(str, words)], env=self.environment,
                              capture_output=True, timeout=120 * SLOWNESS, **more)

    def status(self):
        done = self.command("status", "--json")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)
