"""Results read and checked, tables and figures made of them."""
