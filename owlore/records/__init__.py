"""What every stage is asked (Jobs) and what it writes (Records). Classes only: nothing computes."""
