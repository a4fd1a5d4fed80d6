"""A contestant's process: waits for its turn, runs for a short window and says how far it came.

    worker.py FRAMEWORK THREADS DEVICE          FRAMEWORK: torch, jax or quality

One JSON object per line comes in on stdin and one answer goes out on stdout; what libraries print goes to stderr. It ends
with its stdin, and on Linux with its parent.
"""

import ctypes
import json
import os
import signal
import sys
import time


def end_with_parent():
    """Asks Linux to end this process when the parent has gone, even in the middle of a compilation."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def keep_to_cores(threads):
    """Two threads for every contestant: libraries that choose by themselves look at the cores they may use."""
    os.environ.update({"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "JAX_PLATFORMS": "cpu"})
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


class Turns:
    """Answers the commands of a contest."""

    def __init__(self, framework, device):
        self.makers = framework.contestants(device)
        self.problem, self.made = None, {}

    def load(self, file):
        from problem import Problem

        self.problem, self.made = Problem(file), {}
        return {}

    def contestant(self, name):
        if name not in self.made:
            self.made[name] = self.makers[name](self.problem)
        return self.made[name]

    def check(self, contestant, steps, rate):
        found = self.contestant(contestant).check(steps, rate)
        return {k: v if isinstance(v, float) else v.ravel().tolist() for k, v in found.items()}

    def warm(self, contestant, call, batch):
        """Three calls, the first of which compiles: the seconds of the first."""
        one = self.contestant(contestant)
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            one.call(call, batch)
            one.wait()
            seconds.append(time.perf_counter() - begin)
        return {"first_seconds": seconds[0], "seconds": seconds[-1]}

    def window(self, contestant, call, batch, seconds):
        """Calls until the window is full: how many, and how long they took."""
        one = self.contestant(contestant)
        one.wait()
        calls, begin = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - begin < seconds:
            one.call(call, batch)
            calls += 1
        one.wait()
        return {"calls": calls, "seconds": time.perf_counter() - begin}


def main():
    end_with_parent()
    name, threads, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    keep_to_cores(threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if name == "quality":
        import quality

        hello, turns = quality.start(threads), quality.Fits()
    else:
        framework = __import__(f"{name}_flow")
        hello, turns = framework.start(threads), Turns(framework, device)
    print(json.dumps(hello), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(turns, command.pop("do"))(**command)
        except Exception as error:  # the parent decides what a failure means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)
