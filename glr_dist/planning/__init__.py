"""What a run would take with more workers, before anybody rents them."""
