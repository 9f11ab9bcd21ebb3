"""How long each stage of a run takes, compilation apart."""

import time

import jax

STAGES = ("compile_s", "pretrain_s", "align_s", "analysis_s", "figures_s")


class Clock:
    """Seconds by stage, compilation apart, kept over interruptions: ``with clock("align_s"): …``.

    It hears of compilations from its making until it is closed.
    """

    def __init__(self):
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._compiling: list[tuple[float, float]] = []  # begin and end of each compilation
        jax.monitoring.register_event_duration_secs_listener(self._note)

    def close(self) -> None:
        """Listen no more."""
        jax.monitoring.unregister_event_duration_listener(self._note)

    def __call__(self, stage: str):
        self._stage = stage
        return self

    def __enter__(self):
        self._start = time.perf_counter()

    def __exit__(self, *_):
        compiling = self._compiled_since(self._start)
        self.seconds["compile_s"] += compiling
        self.seconds[self._stage] += time.perf_counter() - self._start - compiling

    def timing(self, tokens: int) -> dict:
        """What metrics.json holds, where training reads so many tokens."""
        training = self.seconds["pretrain_s"] + self.seconds["align_s"]
        return {
            **self.seconds,
            "total_s": sum(self.seconds.values()),
            "tokens_per_s": tokens / training,
        }

    def _note(self, event: str, seconds: float, **_):
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self._compiling.append((now - seconds, now))

    def _compiled_since(self, start: float) -> float:
        """Seconds in which anything was compiled: threads compile at once, and compilations contain
        others."""
        seconds, upto = 0.0, start
        for begin, end in sorted(span for span in self._compiling if span[1] > start):
            seconds += max(end - max(begin, upto), 0)
            upto = max(upto, end)
        return seconds
