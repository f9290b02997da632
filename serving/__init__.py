"""What stands between HTTP and the service: checked requests, short errors, and the way into the batch."""
