"""Teachers: OpenAI's and Anthropic's dialects through the providers' SDKs, and a local server that speaks both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
