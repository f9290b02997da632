"""What scores chats, and counts and logs the scores."""
