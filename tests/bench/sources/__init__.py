"""How fast the kernel event sources decode."""
