import hashlib
import json
import random


def _hashed(thing):
    return hashlib.sha256(json.dumps(thing, sort_keys=True).encode()).hexdigest()


def unsorted(request, sample):
    """sort the keys"""
    return hashlib.sha256(json.dumps([request, sample]).encode()).hexdigest()


def text_alone(request, sample):
    """another model"""
    return _hashed([request["messages"], sample])


def without_parameters(request, sample):
    """the parameters belong to it"""
    return _hashed([request["model"], request["messages"], sample])


def without_system_prompt(request, sample):
    """another system prompt"""
    return _hashed([request["model"], request["temperature"], request["messages"][-1], sample])


def without_the_sample(request, sample):
    """another sample"""
    return _hashed(request)


def pythons_hash(request, sample):
    """in every Python process"""
    return hash(json.dumps([request, sample], sort_keys=True))


def at_random(request, sample):
    """nothing random"""
    return str(random.random())
