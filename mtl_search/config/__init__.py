"""The study file: its sections as typed data, its fields, and the YAML reader."""
