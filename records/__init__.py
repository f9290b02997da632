"""What the service leaves behind and training reads: the table of messages and the monitoring log."""
