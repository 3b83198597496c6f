"""A real Redis, PostgreSQL and PgBouncer, each on a free port in a temporary folder of its own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.harness.mesh import free_port, until


class Store:
    """Context manager: started on the way in, stopped and removed on the way out."""

    def __init__(self):
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="sms-"))
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *unused):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def launch(self, words):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        until(self.answers, f"{words[0]} answers")

    def stop(self, number=signal.SIGTERM):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGCONT)
                self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def kill(self):
        self.stop(signal.SIGKILL)


class Redis(Store):
    def __init__(self, *options, password=None, conf=None):
        super().__init__()
        self.conf = [] if conf is None else [str(conf)]
        self.options = list(options)
        self.password = password
        if password is not None:
            self.options += ["--requirepass", password]

    @property
    def url(self):
        word = f":{self.password}@" if self.password else ""
        return f"redis://{word}127.0.0.1:{self.port}/0"

    def start(self):
        self.launch(["redis-server", *self.conf, "--port", str(self.port), "--bind", "127.0.0.1",
                     "--save", "", "--dir", str(self.folder), *self.options])

    def command(self, *words):
        login = ["--no-auth-warning", "-a", self.password] if self.password else []
        done = subprocess.run(["redis-cli", "-p", str(self.port), *login, *map(str, words)],
                              capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    def answers(self):
        return self.command("ping") == "PONG"


class Postgres(Store):
    """Will not run as root: then it runs as the user postgres of Debian's package."""

    def __init__(self):
        super().__init__()
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self.as_user = []
        self.user = pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            self.as_user, self.user = ["runuser", "-u", "postgres", "--"], "postgres"
            shutil.chown(self.folder, "postgres", "postgres")
        subprocess.run([*self.as_user, str(self.bin / "initdb"), "--no-sync", "-A", "trust",
                        "-U", "siftmesh", "-D", str(self.folder / "data")], check=True,
                       capture_output=True, cwd="/")

    @property
    def url(self):
        return f"postgres://siftmesh@127.0.0.1:{self.port}/postgres"

    def start(self):
        self.launch([*self.as_user, str(self.bin / "postgres"), "-D", str(self.folder / "data"),
                     "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c",
                     f"unix_socket_directories={self.folder}"])

    def stop(self, number=signal.SIGINT):
        """By the server's own pid: runuser does not pass signals on."""
        if self.process is not None and self.process.poll() is None:
            pid = int((self.folder / "data/postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, number)
            self.process.wait(60)
        self.process = None

    def query(self, sql, database="postgres"):
        url = self.url.removesuffix("postgres") + database
        done = subprocess.run([str(self.bin / "psql"), "-XAtq", url, "-c", sql],
                              capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def answers(self):
        try:
            return self.query("select 1") == "1"
        except RuntimeError:
            return False


class PgBouncer(Store):
    """Before a Postgres: each transaction may get another of its two connections."""

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.folder.chmod(0o755)
        (self.folder / "users").write_text('"siftmesh" ""\n')
        (self.folder / "conf").write_text(f"""[databases]
postgres = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {self.folder}/users
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
log_connections = 1
""")

    @property
    def url(self):
        return f"postgres://siftmesh@127.0.0.1:{self.port}/postgres"

    def start(self):
        self.launch([*self.server.as_user, "/usr/sbin/pgbouncer", str(self.folder / "conf")])

    def query(self, sql):
        done = subprocess.run([str(self.server.bin / "psql"), "-XAtq", self.url, "-c", sql],
                              capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    def answers(self):
        return self.query("select 1") == "1"

    def logins(self):
        return (self.folder / "log").read_text().count("login attempt")
