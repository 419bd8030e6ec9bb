"""The record: what exists, what happened to it, who says so. The lowest package; imports nothing of ours."""
