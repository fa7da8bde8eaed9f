"""A line of 20 ms round trip between two network namespaces of our own (`line.c`), of which the caller enters one.

Its loopback is as good as the machine's, so a benchmark can do all of its work there. Needs root; see `possible`.
"""

import ctypes
import os
import pathlib
import socket
import subprocess
import sys
import time

NEAR, FAR = "10.99.0.1", "10.99.0.2"
ROUND_TRIP = 0.02  # seconds
NEWNET = 0x40000000  # CLONE_NEWNET

# Answers each byte when asked for echoes, else takes all and says when it is done.
PARTNER = """
import socket
listener = socket.create_server(("10.99.0.2", 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    echoes = client.recv(1) == b"e"
    while data := client.recv(1 << 20):
        if echoes:
            client.sendall(data)
    client.sendall(b".")
    client.close()
"""


def possible():
    """Whether this process may make such a line."""
    return os.getuid() == 0 and pathlib.Path("/dev/net/tun").exists()


class Line:
    FAR = FAR
    """The line. This process, with the threads and children that it starts from now on, is at its near end."""

    def __init__(self, sandbox):
        program = sandbox.compile("line", (pathlib.Path(__file__).parent / "line.c").read_text())
        delay = str(int(ROUND_TRIP / 2 * 1_000_000))
        self.process = subprocess.Popen([program, delay], stdout=subprocess.PIPE, text=True)
        here, there = self.process.stdout.readline().split()
        namespace = os.open(here, os.O_RDONLY | os.O_CLOEXEC)
        if ctypes.CDLL(None, use_errno=True).setns(namespace, NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the namespace")
        os.close(namespace)
        self.there = ["nsenter", f"--net={there}"]  # in front of a command that is to run at the far end

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def measure(self):
        """Its round trips in milliseconds, and rates of one connection in MB/s."""
        partner = subprocess.Popen([*self.there, sys.executable, "-c", PARTNER], stdout=subprocess.PIPE, text=True)
        try:
            port = int(partner.stdout.readline())
            return self.trips(port), [self.rate(port) for _ in range(3)]
        finally:
            partner.kill()
            partner.wait()

    @staticmethod
    def connect(port, kind):
        stream = socket.create_connection((FAR, port))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sendall(kind)
        return stream

    def trips(self, port, count=20):
        trips = []
        with self.connect(port, b"e") as stream:
            for _ in range(count):
                began = time.perf_counter()
                stream.sendall(b"-")
                stream.recv(1)
                trips.append((time.perf_counter() - began) * 1000)
        return trips

    def rate(self, port, megabytes=400):
        data = bytes(1_000_000)
        with self.connect(port, b"-") as stream:
            began = time.perf_counter()
            for _ in range(megabytes):
                stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            stream.recv(1)
            return megabytes / (time.perf_counter() - began)
