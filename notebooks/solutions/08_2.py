import json


def to_ask(wanted, lines, retry_failed):
    latest = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            if number < len(lines):
                raise  # torn in the middle: somebody has edited the file
            break
        latest[record["key"]] = record
    return [
        key
        for key in dict.fromkeys(wanted)
        if key not in latest or (retry_failed and latest[key]["failure"] is not None)
    ]
