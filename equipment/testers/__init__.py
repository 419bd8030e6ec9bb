"""Handing cells to testers, reading their files and analysing what they measured."""
