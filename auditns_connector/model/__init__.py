"""Processes, namespaces, containers and clocks: state with time in it. Pure: no clock, no /proc."""
