"""Which benchmark questions are in the training rows."""
