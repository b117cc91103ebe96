"""Latency, throughput, accuracy and agreement of every file, and what a program waits for before its first answer."""

from bench.conftest import MARKS

pytestmark = MARKS


def test_latency(record, inference, latency_case):
    record(lambda: inference.latency(latency_case))


def test_start(record, inference, start_case):
    record(lambda: inference.start(start_case))
