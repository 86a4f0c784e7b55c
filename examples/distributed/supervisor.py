"""Starts the workers of one machine, and all of them again when one dies."""

import json
import os
import socket
import subprocess
import sys
import time


def free_addresses(number):
    """Addresses on the loopback interface that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()


def start(number):
    """Start this program once for each worker, with `--workers=0`."""
    addresses, processes = free_addresses(number), []
    for index in range(number):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        process = subprocess.Popen([sys.executable, *sys.argv, "--workers=0"], env=environment)
        print(f"worker {index}: process {process.pid}, {addresses[index]}", flush=True)
        processes.append(process)
    return processes


def wait(processes):
    """Wait until all have ended well, or one has not; return whether all have."""
    try:
        while True:
            codes = [process.poll() for process in processes]
            if any(codes):
                print(f"workers ended with {codes}", flush=True)
                return False
            if not any(code is None for code in codes):
                return True
            time.sleep(0.1)
    finally:
        # The others wait for the dead one; nothing is lost but the steps since the checkpoint.
        for process in processes:
            process.kill()
            process.wait()


def supervise(number, restarts):
    """Run the workers to the end, through up to `restarts` crashes."""
    for attempt in range(restarts + 1):
        if wait(start(number)):
            return
        if attempt < restarts:
            print(f"restart {attempt + 1} of {restarts}", flush=True)
    raise SystemExit(
        f"A worker ended with an error {restarts + 1} times; its own message is above. Start again "
        "with the same --output_dir to go on from the last checkpoint."
    )
