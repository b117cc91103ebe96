"""Latency, throughput, accuracy and agreement of every file, and its cold start."""

from bench.conftest import MARKS

pytestmark = MARKS


def test_latency(record, inference, latency_case):
    record(lambda: inference.latency(latency_case))


def test_cold_start(record, inference, cold_start_case):
    record(lambda: inference.cold_start(cold_start_case))
