"""slowhttptest's three attacks on a gateway: heads, bodies and reads that never end."""

import os
import shutil
import subprocess


def command(mode, url, key, connections, seconds):
    """`key`: of a result larger than what a socket's buffers hold, for the slow reader."""
    common = ["slowhttptest", "-c", str(connections), "-r", str(connections), "-l", str(seconds),
              "-p", "10", "-v", "1"]
    return common + {
        "slowloris": ["-H", "-i", "1", "-u", f"{url}/v1/features"],
        "slow body": ["-B", "-i", "1", "-s", "200000", "-f", "application/octet-stream", "-u",
                      f"{url}/v1/features"],
        "slow read": ["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "32", "-u",
                      f"{url}/v1/features/{key}"],
    }[mode]


def installed():
    return shutil.which("slowhttptest") is not None


MODES = ("slowloris", "slow body", "slow read")


class Attack:
    """Runs until `seconds` are over, its last connection is closed, or stop()."""

    def __init__(self, *arguments):
        environment = {**os.environ, "TERM": "dumb"}
        self.process = subprocess.Popen(
            command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def running(self):
        return self.process.poll() is None

    def stop(self):
        if self.running():
            self.process.terminate()
        self.process.wait()
