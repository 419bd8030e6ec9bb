"""Drives tools and testers, and knows what they did."""
