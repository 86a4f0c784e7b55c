"""Runs of a benchmark in processes side by side, each of which keeps what it has compiled."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from resrep_keras.common.files import write_text

GRACE = 45  # seconds in which runs that are under way may end


class Plan:
    """What is to be run: tasks in the order of their value, of which each is run once.

    A task is a dict of JSON values with its `name`, by which it is kept; the `stage` of its value,
    lower first; the `program` that it needs, which takes long to compile; and `after`, the name of
    a task that must be done before, or `None`.

    Args:
        stages: Functions of the results so far, `{name: result}`, that return more tasks; each is
            asked when there is nothing else to do.
        folder: Where results are kept, and found again.
        collect: A file to which each result is added as a line, too, or `None`.
        time_limit: Seconds after which nothing is begun.
    """

    def __init__(self, stages, folder, collect=None, time_limit=float("inf")):
        self._stages, self._folder = list(stages), pathlib.Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._collect, self._ends = collect, time.monotonic() + time_limit
        self._begins, self._limits = time.monotonic(), {}
        self._changed = threading.Condition()
        self._waiting, self._begun, self._running = [], set(), {}
        self._holders = {}
        self.results = {}
        for path in sorted(self._folder.glob("*.json")):
            result = json.loads(path.read_text(encoding="utf-8"))
            self.results[path.stem] = result
            self._note(result)

    def limit(self, split, seconds):
        """Begin nothing of a `split` after so many seconds."""
        self._limits[split] = seconds

    def take(self, worker):
        """The next task for a worker, `None` where there is none."""
        with self._changed:
            while time.monotonic() < self._ends:
                elapsed = time.monotonic() - self._begins
                self._waiting = [
                    task
                    for task in self._waiting
                    if elapsed < self._limits.get(task["split"], float("inf"))
                ]
                done = {None, *self.results}
                ready = [task for task in self._waiting if task["after"] in done]
                if ready:
                    task = self._chosen(ready, worker)
                    self._waiting.remove(task)
                    self._running[worker] = task
                    self._holders.setdefault(task["program"], set()).add(worker)
                    return task
                if self._waiting and not self._running:  # what they wait for has failed
                    print("left out:", ", ".join(task["name"] for task in self._waiting))
                    self._waiting = []
                if not self._waiting and self._stages:
                    self._add(self._stages.pop(0)(dict(self.results)))
                elif self._running:
                    self._changed.wait(1)
                else:
                    return None
            return None

    def done(self, worker, result):
        """Keep the result of what a worker was given; `None` where it has failed."""
        with self._changed:
            task = self._running.pop(worker)
            if result is None:
                for held in self._holders.values():
                    held.discard(worker)
                print(f"failed: {task['name']}", flush=True)
            else:
                result = {**task, **result}
                self.results[task["name"]] = result
                path = self._folder / f"{task['name']}.json"
                write_text(path, json.dumps(result) + "\n")
                self._note(result)
            self._changed.notify_all()

    def _chosen(self, ready, worker):
        """Of the lowest stage: what the worker has compiled, else what the fewest have."""
        first = min(task["stage"] for task in ready)
        ready = [task for task in ready if task["stage"] == first]
        own = [t for t in ready if worker in self._holders.get(t["program"], ())]
        if own:
            return own[0]
        programs = [task["program"] for task in ready]
        return max(
            ready,
            key=lambda task: (
                programs.count(task["program"]) / (1 + len(self._holders.get(task["program"], ())))
            ),
        )

    def _add(self, tasks):
        for task in tasks:
            if task["name"] not in self._begun:
                self._begun.add(task["name"])
                if task["name"] not in self.results:
                    self._waiting.append(task)

    def _note(self, result):
        if self._collect is not None:
            with open(self._collect, "a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")


def run_all(plan, jobs, command=None):
    """Run a plan in so many processes, each by `command`; by default this program's `--worker`."""
    processes, command = {}, command or [sys.executable, *sys.argv, "--worker"]

    def drive(worker):
        while (task := plan.take(worker)) is not None:
            if worker not in processes:
                with open(plan._folder / f"worker_{worker}.log", "a") as log:
                    processes[worker] = subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                    )
            process = processes[worker]
            try:
                process.stdin.write(json.dumps(task) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                _end(processes.pop(worker))
            plan.done(worker, json.loads(line) if line else None)

    threads = [threading.Thread(target=drive, args=(n,), daemon=True) for n in range(jobs)]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads) and time.monotonic() < plan._ends + GRACE:
        time.sleep(0.2)
    for process in list(processes.values()):
        _end(process)


def _end(process):
    process.kill()
    process.wait()
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):  # of what it has not read
        process.stdin.close()


def serve(run):
    """Be a worker: `run` each task of a line, and answer with its result."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anybody prints goes to the log
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line))) + "\n")
        answers.flush()
