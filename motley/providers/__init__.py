"""Where devices come from: one module a provider, and the table of them."""
