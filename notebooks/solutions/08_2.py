import hashlib
import json


def key_of(request, sample):
    canonical = json.dumps([request, sample], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
