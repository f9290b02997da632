"""What measures the speed: of scoring, and of the service beside its peers."""
