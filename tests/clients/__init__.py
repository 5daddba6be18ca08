"""Clients that people really use, driven from tests."""
