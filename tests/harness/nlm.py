"""nlm.py - bench/nlm_tool.c from Python: non-local means at any CPU level."""

import struct
import subprocess

import numpy as np

ENOTSUP = 95
LEVELS = ["scalar", "avx2", "avx512", "neon"]


class NlmTool:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def close(self):
        self.process.stdin.close()
        return self.process.wait(timeout=60)

    def run(self, picture, h, template, search, level="auto", repeats=1):
        """(denoised picture, seconds of each run); None where the machine lacks `level`."""
        height, width = picture.shape
        depth = 8 * picture.itemsize
        head = struct.pack("=8s6Id", level.encode(), width, height, depth, template,
                           search, repeats, h)
        self.process.stdin.write(head + np.ascontiguousarray(picture).tobytes())
        self.process.stdin.flush()
        error, count = struct.unpack("=iI", self.read(8))
        times = np.frombuffer(self.read(8 * count), "=u8") / 1e9
        if error == -ENOTSUP:
            return None
        assert error == 0, f"nlm_tool: error {error}"
        pixels = np.frombuffer(self.read(picture.nbytes), picture.dtype)
        return pixels.reshape(picture.shape), list(times)

    def read(self, count):
        data = self.process.stdout.read(count)
        assert len(data) == count, "nlm_tool ended"
        return data

    def levels(self):
        tiny = np.zeros((1, 1), np.uint8)
        return [name for name in LEVELS if self.run(tiny, 10, 1, 1, name) is not None]
