"""Models, data and the local loop: the only place that imports PyTorch."""
