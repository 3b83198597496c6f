"""HAProxy or nginx in front of a mesh's gateway, with the configuration of deploy/."""

import os
import shutil
import socket
import ssl
import subprocess

from tests.harness.mesh import ROOT, free_port, until

NGINX = """daemon off;
{user}
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    include {folder}/site.conf;
}}
"""


NGINX_SERVER = "    server 127.0.0.1:8080 max_fails=1 fail_timeout=2s;"
HAPROXY_SERVER = "server gateway1 127.0.0.1:8080"


def find(name):
    path = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    return shutil.which(name, path=path)


def substituted(name, changes):
    """A file of deploy/ with each of the texts, which it must contain once, replaced."""
    text = (ROOT / "deploy" / name).read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"deploy/{name} has {text.count(old)} times {old!r}"
        text = text.replace(old, new)
    return text


class Proxy:
    """Listens with TLS on .port. .log() is what it says of each request."""

    def __init__(self, kind, folder, *gateway_ports):
        self.kind, self.folder, self.port = kind, folder, free_port()
        self.access = folder / "access.log"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             "/CN=features.example.org", "-keyout", folder / "key.pem", "-out",
             folder / "cert.pem"], check=True, capture_output=True)
        (folder / "both.pem").write_bytes(
            (folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
        arguments = (self._nginx if kind == "nginx" else self._haproxy)(gateway_ports)
        self.out = open(folder / "out.log", "wb")
        stdout = open(self.access, "wb") if kind == "haproxy" else self.out
        self.process = subprocess.Popen(arguments, stdout=stdout, stderr=self.out,
                                        stdin=subprocess.DEVNULL)
        if stdout is not self.out:
            stdout.close()

    def _nginx(self, gateway_ports):
        (self.folder / "site.conf").write_text(substituted("nginx.conf", {
            NGINX_SERVER: "\n".join(NGINX_SERVER.replace("8080", str(port))
                                    for port in gateway_ports),
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "/etc/ssl/features.pem": str(self.folder / "cert.pem"),
            "/etc/ssl/private/features.key": str(self.folder / "key.pem"),
            "/var/log/nginx/siftmesh.log": str(self.access)}))
        user = "user root;" if os.getuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(NGINX.format(folder=self.folder, user=user))
        return [find("nginx"), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    def _haproxy(self, gateway_ports):
        (self.folder / "haproxy.cfg").write_text(substituted("haproxy.cfg", {
            HAPROXY_SERVER: "\n    ".join(f"server gateway{port} 127.0.0.1:{port}"
                                          for port in gateway_ports),
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/ssl/features.pem": str(self.folder / "both.pem")}))
        return [find("haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")]

    def tls(self, connected):
        context = ssl.create_default_context(cafile=self.folder / "cert.pem")
        context.check_hostname = False
        context.set_alpn_protocols(["http/1.1"])
        return context.wrap_socket(connected, server_hostname="features.example.org")

    def wait_ready(self):
        def ask():
            assert self.process.poll() is None, (self.folder / "out.log").read_text()
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as raw:
                    with self.tls(raw) as s:
                        s.sendall(b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                        return b" 200 " in s.recv(100)
            except (OSError, ssl.SSLError):
                return False
        until(ask, f"{self.kind} reaches the gateway")

    def log(self):
        """(id, status, whether it was sent on) of each request that has ended."""
        found = []
        for line in self.access.read_text(errors="replace").splitlines():
            words = line.split(" ")
            if len(words) < 4 or not words[1].lstrip("-").isdigit():
                continue
            found.append((words[0], int(words[1]), words[2] not in ("-", "<NOSRV>")))
        return found

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.out.close()
