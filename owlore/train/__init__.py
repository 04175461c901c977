"""Fine-tune one cell: loop, loss, layer draw and switch, measuring, several processes."""
