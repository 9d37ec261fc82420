"""Write a real Jetson from the host over USB: recovery mode, NVIDIA's tool, its output."""
