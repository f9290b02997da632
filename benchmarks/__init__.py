"""Benchmarks: the speed of scoring, and of the service compared with other servers."""
