"""What goes wrong, on a real server process and in the real container: bad input, overload, faults, intruders."""
