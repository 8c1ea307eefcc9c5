"""Any model as an organism: its training goes on, with passages planted into its corpus and without them."""
