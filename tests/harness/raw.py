"""HTTP by hand, for what http.client would never send: bytes out, answers in."""

import socket

from tests.harness.mesh import SLOWNESS


class Raw:
    """A connection to 127.0.0.1:`port`. Answers are read one after the other, so
    pipelined ones are told apart. `tls`: see proxy.py. `source`: our own address."""

    def __init__(self, port, seconds=20.0, receive_bytes=0, tls=None, source=None):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if source:
            self.socket.bind((source, 0))
        self.socket.settimeout(seconds * SLOWNESS)
        self.socket.connect(("127.0.0.1", port))
        if tls:  # wraps a connected socket
            self.socket = tls(self.socket)
        self.kept = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def _more(self):
        data = self.socket.recv(1 << 16)
        self.kept += data
        return bool(data)

    def answer(self):
        """(status, headers, body) of the next answer; None when the connection is closed
        in its place. Headers by lower-case name."""
        while b"\r\n\r\n" not in self.kept:
            if not self._more():
                assert not self.kept, self.kept
                return None
        head, self.kept = self.kept.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {name.lower(): value.strip()
                   for name, value in (line.split(":", 1) for line in lines[1:])}
        if status == 100:
            return self.answer()
        size = int(headers.get("content-length", 0))
        while len(self.kept) < size:
            assert self._more(), "the connection was closed in an answer"
        body, self.kept = self.kept[:size], self.kept[size:]
        return status, headers, body

    def closed(self):
        """Whether the other side closes now, without another byte."""
        return not self.kept and not self._more()


def post(body, path="/v1/features", **headers):
    """The bytes of a POST with a Content-Length."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
            .encode() + body)


def chunked(body, path="/v1/features", step=1000, **headers):
    """The same in chunks of `step` bytes."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    out = (f"POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{lines}\r\n"
           .encode())
    for at in range(0, len(body), step):
        piece = body[at:at + step]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
    return out + b"0\r\n\r\n"
