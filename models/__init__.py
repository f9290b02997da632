"""What training and serving share: the chat, its features, the classifier and its artifact."""
