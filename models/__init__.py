"""What training and serving share: the chat, its features, the classifier and its artifact.

The wheel holds this folder as the package `bot_or_human`; these are its names.
"""

from .chat import Chat, Message
from .library import Classifier, Explanation, Prediction, Predictions
from .validation import InvalidChatError
from .weights import ModelError

__all__ = [
    "Chat",
    "Classifier",
    "Explanation",
    "InvalidChatError",
    "Message",
    "ModelError",
    "Prediction",
    "Predictions",
]
