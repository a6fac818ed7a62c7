"""Pages that open without a network: what they are made of, as HTML or Markdown. Data in, text out; no I/O."""
