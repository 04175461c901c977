"""The OwLore benchmark: memory-efficient fine-tuning methods, measured side by side."""

__version__ = "0.1.0"
