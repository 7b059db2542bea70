"""Where events and records come from: sockets, rings, files. Sources batch and tell loss; they decide nothing."""
