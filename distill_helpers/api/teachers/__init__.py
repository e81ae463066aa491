"""The teachers: OpenAI's and Anthropic's dialects through their SDKs, and a server of your own that speaks both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
