"""What runs once per fleet."""
